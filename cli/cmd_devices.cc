// apr devices: what this machine and this build can compute with.
#include <fmt/format.h>

#include "base/cpu_features.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"

namespace apr {
namespace {

int Devices(Console& console) {
  const Isa active = ActiveIsa();
  if (console.json()) {
    Json tables = Json::array();
    for (const IsaInfo& info : AllIsas()) {
      tables.push_back({{"name", info.name},
                        {"requires", info.requires_},
                        {"available", info.available},
                        {"active", info.isa == active}});
    }
    console.Document({{"cpu",
                       {{"model", CpuModelName()},
                        {"threads", ThreadPool::HardwareThreads()},
                        {"isa", IsaName(active)},
                        {"forced", IsaIsForced()},
                        {"tables", std::move(tables)}}},
                      {"cuda", {{"built", false}, {"devices", Json::array()}}}});
    return 0;
  }
  console.Line(fmt::format("cpu   {}, {} threads", CpuModelName(), ThreadPool::HardwareThreads()));
  TextTable table("<<<");
  for (const IsaInfo& info : AllIsas()) {
    std::string state = info.available ? "available" : "not on this machine";
    if (info.isa == active) state = IsaIsForced() ? "in force (chosen by name)" : "in force";
    table.Row({std::string("      ") + info.name, state, fmt::format("needs {}", info.requires_)});
  }
  console.Text(table.ToString());
  console.Line("cuda  not built in");
  return 0;
}

}  // namespace

const Command kDevicesCommand = {
    .name = "devices",
    .group = "Looking inside",
    .summary = "What this machine and this build can compute with",
    .example = "  apr devices\n  apr devices --cpu avx2 --json",
    .define = [](Flags&) -> CommandRunner { return Devices; },
};

}  // namespace apr
