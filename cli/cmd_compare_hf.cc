// apr compare-hf: a file against the Hugging Face folder that it was made from.
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "compare/weight_diff.h"

namespace apr {
namespace {

struct CompareHfArgs {
  std::string file, hf, tensor;
  double threshold = 1e-5;
  int threads = 0;
};

struct Comparison {
  const WeightRow* row;
  bool shape_match, passes;
};

struct Verdict {
  std::vector<Comparison> rows;
  std::vector<std::string> missing;  // on one side only
  size_t passed = 0, shape_mismatches = 0;
  const WeightRow* worst = nullptr;

  bool all_passed() const { return !rows.empty() && passed == rows.size() && missing.empty(); }
};

Verdict Judge(const WeightDiff& diff, const CompareHfArgs& args) {
  Verdict out;
  for (const WeightRow& row : diff.rows) {
    const bool shapes = row.shape_a == row.shape_b && row.diff.count > 0;
    const bool passes = shapes && row.diff.max_abs <= args.threshold;
    out.rows.push_back({&row, shapes, passes});
    out.passed += passes ? 1 : 0;
    out.shape_mismatches += shapes ? 0 : 1;
    if (shapes && (out.worst == nullptr || row.diff.max_abs > out.worst->diff.max_abs)) out.worst = &row;
  }
  for (const auto& side : {diff.only_a, diff.only_b}) {
    for (const std::string& name : side) {
      if (name.find(args.tensor) != name.npos) out.missing.push_back(name);
    }
  }
  return out;
}

Json ToJson(const WeightDiff& diff, const Verdict& outcome, const CompareHfArgs& args) {
  Json list = Json::array();
  for (const Comparison& c : outcome.rows) {
    const ElementDiff& d = c.row->diff;
    list.push_back({{"name", c.row->name},
                    {"shape_match", c.shape_match},
                    {"passes_threshold", c.passes},
                    {"max_diff", c.shape_match ? JsonNumber(d.max_abs) : Json(nullptr)},
                    {"l2_distance", c.shape_match ? JsonNumber(std::sqrt(d.sum_sq)) : Json(nullptr)},
                    {"cosine_similarity", c.shape_match ? JsonNumber(d.cosine()) : Json(nullptr)},
                    {"name_in_file", c.row->name_a},
                    {"explanation", c.row->explanation}});
  }
  return {{"file", args.file},
          {"hf", args.hf},
          {"basis", diff.basis},
          {"threshold", args.threshold},
          {"total_compared", outcome.rows.size()},
          {"total_passed", outcome.passed},
          {"shape_mismatches", outcome.shape_mismatches},
          {"missing", outcome.missing},
          {"worst_tensor", outcome.worst == nullptr ? Json(nullptr) : Json(outcome.worst->name)},
          {"worst_diff", outcome.worst == nullptr ? Json(nullptr) : JsonNumber(outcome.worst->diff.max_abs)},
          {"all_passed", outcome.all_passed()},
          {"passed", outcome.all_passed()},
          {"comparisons", std::move(list)}};
}

void Print(const Verdict& outcome, const CompareHfArgs& args, Console& console) {
  TextTable table("<<>>>");
  table.Row({"", "tensor", "max diff", "L2", "cosine"});
  for (const Comparison& c : outcome.rows) {
    if (c.passes && !console.verbose()) continue;
    if (!c.shape_match) table.Row({"shape", OneLineText(c.row->name, 100), c.row->shape_a.ToString(), c.row->shape_b.ToString(), ""});
    else table.Row({c.passes ? "ok" : "FAILED", OneLineText(c.row->name, 100), fmt::format("{:.4g}", c.row->diff.max_abs),
                    fmt::format("{:.4g}", std::sqrt(c.row->diff.sum_sq)), fmt::format("{:.8f}", c.row->diff.cosine())});
  }
  if (outcome.passed < outcome.rows.size() || console.verbose()) console.Text(table.ToString());
  for (const std::string& name : outcome.missing) console.Line("only on one side: " + OneLineText(name, 100));
  console.Line(fmt::format("{}: {} of {} tensors within {:g}, {} shapes differ, {} missing{}", outcome.all_passed() ? "passed" : "failed", outcome.passed,
                           outcome.rows.size(), args.threshold, outcome.shape_mismatches, outcome.missing.size(),
                           outcome.worst == nullptr ? "" : fmt::format("; worst {} ({:.4g})", outcome.worst->name, outcome.worst->diff.max_abs)));
}

int Run(const CompareHfArgs& args, Console& console) {
  const WeightPairs pairs = PairWeights(ModelFile::Open(args.file), ModelFile::Open(args.hf));
  WeightDiffOptions options;
  options.filter = args.tensor;
  ThreadPool pool(args.threads > 0 ? args.threads : ThreadPool::HardwareThreads());
  const WeightDiff diff = DiffWeights(pairs, options, pool);
  const Verdict outcome = Judge(diff, args);
  if (console.json()) console.Document(ToJson(diff, outcome, args));
  else Print(outcome, args, console);
  if (outcome.rows.empty()) console.Warn("nothing was compared");
  return outcome.all_passed() ? 0 : ExitCode(ErrorCode::kValidationFailed);
}

CommandRunner DefineCompareHf(Flags& app) {
  auto args = std::make_shared<CompareHfArgs>();
  app.AddOption("file", args->file, "file or folder")->Required()->TypeName("FILE");
  app.AddOption("--hf", args->hf, "the Hugging Face folder, or ORG/REPO in the local cache")->Required()->TypeName("FOLDER");
  app.AddOption("--tensor", args->tensor, "only tensors whose Hugging Face name contains this")->TypeName("NAME");
  app.AddOption("--threshold", args->threshold, "largest difference of an element that passes")->Verify(Check::NonNegative())->TypeName("X");
  app.AddOption("--threads", args->threads, "default: as many as the process may use")->Verify(Check::Range(1, 1024))->TypeName("N");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kCompareHfCommand = {
    .name = "compare-hf",
    .group = "Comparing",
    .summary = "A model's weights against the Hugging Face folder it was made from",
    .example = "  apr compare-hf model.gguf --hf model-folder\n  apr compare-hf model.apr --hf model-folder --tensor q_proj --threshold 1e-3 --json",
    .define = DefineCompareHf,
};

}  // namespace apr
