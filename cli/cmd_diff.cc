// apr diff: two model files, two stage files or two stage directories against each other.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "compare/diff_html.h"
#include "compare/stage_diff.h"
#include "compare/structure_diff.h"
#include "compare/weight_diff.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

struct DiffArgs {
  std::string a, b;
  bool values = false;
  bool weights = false;
  bool quant_roundtrip = false;
  bool transpose_aware = false;
  bool no_threshold = false;
  bool force = false;
  std::string filter;
  int64_t limit = -1;
  std::optional<double> threshold;
  std::optional<double> tolerance;
  std::string html;
  int threads = 0;

  bool compares_values() const { return values || weights || quant_roundtrip || transpose_aware; }
};

constexpr double kDefaultCosine = 0.95;

bool IsStageFile(const std::string& path) {
  return fs::is_regular_file(path) && LooksLikeStageFile(MappedFile::Open(path)->bytes());
}

// A folder that holds captured stages and no model.
bool IsStageDirectory(const std::string& path) {
  if (!fs::is_directory(path)) return false;
  if (fs::exists(path + "/stages.json")) return true;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && name.rfind("layer-", 0) == 0) return true;
    if (name == "lm_head.bin" || name == "final_norm.bin") return true;
  }
  return false;
}

std::string Number(double value) { return fmt::format("{:.4g}", value); }

std::string At(const std::vector<int64_t>& coordinate) { return fmt::format("[{}]", fmt::join(coordinate, ", ")); }

void RefuseForStages(const DiffArgs& args) {
  if (args.quant_roundtrip || args.transpose_aware || args.threshold || !args.filter.empty()) {
    throw Error(ErrorCode::kUsage, "--quant-roundtrip, --transpose-aware, --threshold and --filter are for model files");
  }
}

void WriteHtml(const DiffArgs& args, const std::string& page) {
  if (!args.html.empty()) WriteTextFile(args.html, page, args.force ? Overwrite::kAllow : Overwrite::kRefuse);
}

int DiffTwoStageFiles(const DiffArgs& args, Console& console) {
  RefuseForStages(args);
  if (!args.html.empty()) throw Error(ErrorCode::kUsage, "--html is for models and stage directories");
  const StageFileDiff diff = DiffStageFiles(args.a, args.b, args.limit < 0 ? 10 : args.limit);
  if (console.json()) console.Document(diff.ToJson());
  console.Line(fmt::format("{} values: {}; max |a-b| {} at {}, rms {}, cosine {:.9f}", diff.diff.count,
                           diff.diff.is_identical() ? "identical" : "different", Number(diff.diff.max_abs),
                           diff.diff.max_index, Number(diff.diff.rmse()), diff.diff.cosine()));
  TextTable table(">>>>");
  for (const TopDiff& top : diff.top) {
    if (top.abs_diff != 0) table.Row({std::to_string(top.index), Number(top.a), Number(top.b), Number(top.abs_diff)});
  }
  console.Text(table.ToString());
  const bool beyond = args.tolerance && !(diff.diff.relative_error() <= *args.tolerance);
  return beyond ? ExitCode(ErrorCode::kValidationFailed) : 0;
}

void PrintStageRows(const StageDirectoryDiff& diff, int64_t limit, Console& console) {
  TextTable table("<<>>>");
  std::vector<const StageRow*> rows;
  for (const StageRow& row : diff.rows) {
    if (!row.agrees) rows.push_back(&row);
  }
  for (size_t i = 0; i < rows.size() && static_cast<int64_t>(i) < limit; ++i) {
    const StageRow& row = *rows[i];
    table.Row({row.name, row.problem.empty() ? "differs" : row.problem, Number(row.diff.relative_error()),
               Number(row.diff.max_abs), At(diff.Coordinate(row))});
  }
  console.Text(table.ToString());
  if (static_cast<int64_t>(rows.size()) > limit) console.Line(fmt::format("... and {} more; --limit 0 shows all", static_cast<int64_t>(rows.size()) - limit));
}

int DiffTwoStageDirectories(const DiffArgs& args, Console& console) {
  RefuseForStages(args);
  const StageDirectoryDiff diff = DiffStageDirectories(args.a, args.b, args.tolerance);
  const int64_t limit = args.limit < 0 ? 10 : args.limit == 0 ? INT64_MAX : args.limit;
  WriteHtml(args, StageDiffHtml(diff));
  if (console.json()) console.Document(diff.ToJson(args.limit < 0 ? 0 : args.limit));
  if (!diff.ids_problem.empty()) console.Line(console.Styled(Style::kRed, diff.ids_problem));
  console.Line(fmt::format("{} stages compared, {} only in A, {} only in B", diff.rows.size(), diff.only_a.size(), diff.only_b.size()));
  if (diff.first >= 0) {
    const StageRow& row = diff.rows[static_cast<size_t>(diff.first)];
    console.Line(console.Styled(Style::kRed, fmt::format("first difference: {}", row.name)));
    if (row.problem.empty()) {
      console.Line(fmt::format("  relative error {} (allowed {}), worst at {}: {} in A, {} in B", Number(row.diff.relative_error()),
                               Number(row.tolerance), At(diff.Coordinate(row)), Number(row.diff.a_at_max), Number(row.diff.b_at_max)));
    }
    PrintStageRows(diff, limit, console);
  } else if (!diff.rows.empty()) {
    double worst = 0;
    for (const StageRow& row : diff.rows) worst = std::max(worst, row.diff.relative_error());
    console.Line(console.Styled(Style::kGreen, fmt::format("every stage agrees; largest relative error {}", Number(worst))));
  }
  return diff.agree() ? 0 : ExitCode(ErrorCode::kValidationFailed);
}

void PrintWeights(const WeightDiff& diff, Console& console) {
  TextTable table("<<<>>>");
  for (const WeightRow& row : diff.rows) {
    const bool good = row.verdict == WeightVerdict::kIdentical || row.verdict == WeightVerdict::kExplained;
    if (good && !console.verbose()) continue;
    const bool compared = row.diff.count > 0;  // of shapes that contradict each other nothing is
    table.Row({row.name, WeightVerdictName(row.verdict), row.explanation, compared ? Number(row.diff.max_abs) : "", compared ? At(row.Coordinate()) : "",
               compared ? fmt::format("cosine {:.6f}", row.diff.cosine()) : ""});
  }
  console.Text(table.ToString());
  for (const std::string& name : diff.only_a) console.Line("only in A: " + name);
  for (const std::string& name : diff.only_b) console.Line("only in B: " + name);
  int64_t identical = 0, explained = 0;
  double worst = 0;
  for (const WeightRow& row : diff.rows) {
    identical += row.verdict == WeightVerdict::kIdentical;
    explained += row.verdict == WeightVerdict::kExplained;
    if (row.verdict == WeightVerdict::kExplained) worst = std::max(worst, row.ratio);
  }
  console.Line(fmt::format("{} tensors compared through the {}: {} identical, {} explained by their formats, {} different, {} missing",
                           diff.rows.size(), diff.basis, identical, explained,
                           static_cast<int64_t>(diff.rows.size()) - identical - explained, diff.only_a.size() + diff.only_b.size()));
  if (explained > 0) console.Line(fmt::format("largest explained error: {:.2f} x what the types must have", worst));
}

int DiffValues(const DiffArgs& args, const WeightPairs& pairs, Console& console) {
  WeightDiffOptions options;
  options.filter = args.filter;
  options.limit = std::max<int64_t>(args.limit, 0);
  options.transpose_aware = args.transpose_aware;
  options.threshold = args.threshold;
  if (args.quant_roundtrip && !args.threshold && !args.no_threshold) options.threshold = kDefaultCosine;
  ThreadPool pool(args.threads > 0 ? args.threads : ThreadPool::HardwareThreads());
  const WeightDiff diff = DiffWeights(pairs, options, pool);
  WriteHtml(args, WeightDiffHtml(diff));
  if (console.json()) console.Document(diff.ToJson());
  PrintWeights(diff, console);
  return diff.agree() ? 0 : ExitCode(ErrorCode::kValidationFailed);
}

int DiffFiles(const DiffArgs& args, Console& console) {
  if (args.tolerance) throw Error(ErrorCode::kUsage, "--tolerance is for captured stages");
  const WeightPairs pairs = PairWeights(ModelFile::Open(args.a), ModelFile::Open(args.b));
  if (args.compares_values()) return DiffValues(args, pairs, console);
  if (!args.html.empty() || args.threshold) throw Error(ErrorCode::kUsage, "--html and --threshold need --values");
  StructureDiff diff = DiffStructure(pairs);
  if (!args.filter.empty()) {
    std::erase_if(diff.differences, [&](const StructureDifference& d) { return d.field.find(args.filter) == std::string::npos; });
  }
  if (console.json()) console.Document(diff.ToJson());
  TextTable table("<<<");
  const size_t limit = args.limit <= 0 ? SIZE_MAX : static_cast<size_t>(args.limit);
  for (size_t i = 0; i < diff.differences.size() && i < limit; ++i) {
    const StructureDifference& d = diff.differences[i];
    table.Row({d.field, d.value_a, d.value_b});
  }
  console.Text(table.ToString());
  console.Line(diff.differences.empty() ? "the same structure" : fmt::format("{} differences in structure", diff.differences.size()));
  return 0;
}

int Run(const DiffArgs& args, Console& console) {
  const bool stage_a = IsStageFile(args.a), stage_b = IsStageFile(args.b);
  if (stage_a && stage_b) return DiffTwoStageFiles(args, console);
  const bool folder_a = IsStageDirectory(args.a), folder_b = IsStageDirectory(args.b);
  if (folder_a && folder_b) return DiffTwoStageDirectories(args, console);
  if (stage_a || stage_b || folder_a || folder_b) {
    for (const std::string& path : {args.a, args.b}) {
      if (!fs::exists(path)) throw Error(ErrorCode::kNotFound, "does not exist", {.file = path});
    }
    throw Error(ErrorCode::kUsage, "one side is a captured stage, the other is not: nothing to compare");
  }
  return DiffFiles(args, console);
}

CommandRunner DefineDiff(Flags& app) {
  auto args = std::make_shared<DiffArgs>();
  app.AddOption("A", args->a, "model, stage file or stage directory: the reference")->Required();
  app.AddOption("B", args->b, "what is compared with it")->Required();
  app.AddFlag("--values", args->values, "compare every weight, not only the structure; exit 5 if any differs");
  app.AddFlag("--weights", args->weights, "the same as --values");
  app.AddFlag("--quant-roundtrip", args->quant_roundtrip, "--values; B is a quantisation of A: a cosine below --threshold (0.95) is a difference");
  app.AddFlag("--transpose-aware", args->transpose_aware, "--values; matrices of swapped shape are compared transposed");
  app.AddOption("--filter", args->filter, "only tensors whose name contains TEXT")->TypeName("TEXT");
  app.AddOption("--limit", args->limit, "tensors, stages or differences shown at most; 0: all")->Verify(Check::NonNegative());
  app.AddOption("--threshold", args->threshold, "cosine below which a tensor is different")->Verify(Check::Range(-1.0, 1.0));
  app.AddFlag("--no-threshold", args->no_threshold, "no cosine limit with --quant-roundtrip");
  app.AddOption("--tolerance", args->tolerance, "largest relative error of a stage (default: by the runs' number formats)")->Verify(Check::NonNegative());
  app.AddOption("--html", args->html, "write a page")->TypeName("OUT");
  app.AddFlag("--force", args->force, "replace an existing page");
  app.AddOption("--threads", args->threads, "threads (default: all)")->Verify(Check::Positive());
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kDiffCommand = {
    .name = "diff",
    .group = "Comparing",
    .summary = "Two models, stage files or stage directories against each other",
    .example = "  apr diff a.gguf b.gguf\n  apr diff MODEL_DIR model.gguf --values --html diff.html\n  apr diff trace-a trace-b",
    .define = DefineDiff,
};

}  // namespace apr
