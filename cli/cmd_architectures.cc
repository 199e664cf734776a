// apr architectures: which architectures this program computes, and how each is known to be right.
#include <fmt/format.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "model/architecture.h"

namespace apr {
namespace {

int ListArchitectures(Console& console) {
  if (console.json()) {
    Json list = Json::array();
    for (const Architecture& a : AllArchitectures()) {
      list.push_back({{"name", std::string(a.name)},
                      {"class", std::string(a.hf_class)},
                      {"gguf", a.gguf.empty() ? Json(nullptr) : Json(std::string(a.gguf))},
                      {"experts", a.moe != MoeRule::kNone},
                      {"tested", TestedModels(a)}});
    }
    console.Document({{"architectures", list}});
  }
  TextTable table("<<<<<");
  for (const Architecture& a : AllArchitectures()) {
    table.Row({std::string(a.name), std::string(a.hf_class), a.gguf.empty() ? "" : "GGUF " + std::string(a.gguf),
               a.moe == MoeRule::kNone ? "" : "mixture of experts", fmt::format("{}", fmt::join(TestedModels(a), ", "))});
  }
  console.Text(table.ToString());
  console.Line("The last column names the tiny models of testdata/model on which logits, every traced stage and greedy");
  console.Line("ids are tested against PyTorch in true float64 (src/model/oracle_test.cc), from config.json and safetensors;");
  console.Line("tools/oracle/twins.py compares models with random constants of every architecture.");
  return 0;
}

}  // namespace

const Command kArchitecturesCommand = {
    .name = "architectures",
    .group = "Looking inside",
    .summary = "The architectures this program computes",
    .example = "  apr architectures",
    .define = [](Flags&) -> CommandRunner { return ListArchitectures; },
};

}  // namespace apr
