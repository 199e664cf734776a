// apr validate: whether a model file is whole and plausible.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "format/stage_file.h"
#include "model/quality.h"
#include "model/validate.h"

namespace apr {
namespace {

struct ValidateArgs {
  std::string file;
  bool strict = false;
  bool quality = false;
  std::optional<int> min_score;
  int threads = 0;
};

constexpr size_t kShownFindings = 8;

void PrintCheck(const CheckResult& check, bool strict, bool all, Console& console) {
  const bool failed = check.Count(Severity::kError) > 0 || (strict && check.Count(Severity::kWarning) > 0);
  std::string state = console.Styled(Style::kGreen, "ok     ");
  if (failed) state = console.Styled(Style::kRed, "FAILED ");
  else if (!check.skipped.empty()) state = console.Styled(Style::kDim, "skipped");
  else if (check.Count(Severity::kWarning) > 0) state = console.Styled(Style::kYellow, "warning");
  console.Line(fmt::format("{}  {}: {}", state, check.id, check.skipped.empty() ? check.what : check.skipped));
  const size_t shown = all ? check.findings.size() : std::min(check.findings.size(), kShownFindings);
  for (size_t i = 0; i < shown; ++i) {
    const Finding& f = check.findings[i];
    console.Line(fmt::format("         {}: {}{}{}", SeverityName(f.level), f.tensor.empty() ? "" : OneLineText(f.tensor, 100) + ": ", f.message,
                             f.offset ? fmt::format(" (offset {})", *f.offset) : ""));
  }
  if (shown < check.findings.size()) {
    console.Line(fmt::format("         ... and {} more; --verbose or --json shows all", check.findings.size() - shown));
  }
}

void Print(const ValidateReport& report, double seconds, Console& console) {
  for (const CheckResult& check : report.checks) PrintCheck(check, report.strict, console.verbose(), console);
  console.Line(fmt::format("{}: {} ({} errors, {} warnings; {} tensors, {} read in {:.3f} s)", report.file,
                           report.passed() ? "passed" : "failed", report.Count(Severity::kError), report.Count(Severity::kWarning),
                           report.tensors, HumanBytes(report.bytes_read), seconds));
}

// A captured stage: its structure, and that its values are finite.
int ValidateStage(const ValidateArgs& args, Console& console) {
  const StageFile stage = ReadStageFile(args.file);
  ValidateReport report;
  report.file = args.file;
  report.format = "aprt";
  report.strict = args.strict;
  report.tensors = 1;
  report.elements = stage.values.size();
  report.bytes_read = stage.values.size() * sizeof(float);
  report.checks.push_back({"structure", "the file holds what its header says", "", {}});
  CheckResult finite{"F-DATA-QUALITY-002", "no NaN, no infinity", "", {}};
  for (size_t i = 0; i < stage.values.size(); ++i) {
    if (std::isfinite(stage.values[i])) continue;
    finite.findings.push_back({Severity::kError, fmt::format("element {} is {}", i, stage.values[i]), args.file, "", 12 + 4 * i});
    break;
  }
  report.checks.push_back(std::move(finite));
  if (console.json()) console.Document(report.ToJson());
  else Print(report, 0, console);
  return report.passed() ? 0 : ExitCode(ErrorCode::kValidationFailed);
}

// What cannot be opened has not passed: the document says so, and why.
std::shared_ptr<const ModelFile> Open(const ValidateArgs& args, Console& console) {
  try {
    return ModelFile::Open(args.file);
  } catch (const Error& e) {
    if (console.json()) {
      Json document = {{"file", args.file}, {"model", args.file}, {"passed", false}};
      document.update(ErrorDocument(e));
      console.Document(document);
    }
    throw;
  }
}

int Run(const ValidateArgs& args, Console& console) {
  const auto start = std::chrono::steady_clock::now();
  if (IsStageFile(args.file)) {
    if (args.quality || args.min_score) throw Error(ErrorCode::kUsage, "--quality is for .apr models", {.file = args.file});
    return ValidateStage(args, console);
  }
  const auto file = Open(args, console);
  const bool score = args.quality || args.min_score;
  if (score && file->container() != Container::kApr) {
    throw Error(ErrorCode::kUsage, fmt::format("--quality and --min-score are for .apr files; this is {}", file->format_version()),
                {.file = args.file});
  }
  ThreadPool pool(args.threads > 0 ? args.threads : ThreadPool::HardwareThreads());
  const ValidateReport report = ValidateModel(*file, args.strict, pool);
  const std::optional<QualityScore> quality = score ? std::optional(ScoreQuality(*file, report.Check("checksum")->findings.empty())) : std::nullopt;
  const bool enough = !args.min_score || quality->score() >= *args.min_score;
  const bool passed = report.passed() && enough;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (console.json()) {
    Json document = report.ToJson();
    document["passed"] = passed;
    document["duration_ms"] = seconds * 1e3;
    document["quality"] = quality ? quality->ToJson() : Json(nullptr);
    document["min_score"] = args.min_score ? Json(*args.min_score) : Json(nullptr);
    console.Document(document);
  } else {
    Print(report, seconds, console);
    if (quality) {
      console.Line(fmt::format("quality {} of 100: checksums {}/20, structure {}/20, provenance {}/25, identity {}/20, tokenizer {}/15",
                               quality->score(), quality->physics, quality->structural, quality->provenance, quality->hf_identity,
                               quality->tokenizer));
    }
    if (!enough) console.Line(fmt::format("failed: the score {} is below {}", quality->score(), *args.min_score));
  }
  return passed ? 0 : ExitCode(ErrorCode::kValidationFailed);
}

CommandRunner DefineValidate(Flags& app) {
  auto args = std::make_shared<ValidateArgs>();
  app.AddOption("file", args->file, "file or folder, or a captured stage")->Required()->TypeName("FILE");
  app.AddFlag("--strict", args->strict, "warnings fail too, and so does any tensor of nothing but zeros");
  app.AddFlag("--quality", args->quality, ".apr: also score what a published model should carry");
  app.AddOption("--min-score", args->min_score, ".apr: fail below this score, 0 to 100")->Verify(Check::Range(0, 100))->TypeName("N");
  app.AddOption("--threads", args->threads, "default: as many as the process may use")->Verify(Check::Range(1, 1024))->TypeName("N");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kValidateCommand = {
    .name = "validate",
    .group = "Looking inside",
    .summary = "Whether a model file is whole and plausible: structure, checksums, names, data quality",
    .example = "  apr validate model.gguf\n  apr validate model.apr --strict --min-score 90 --json",
    .define = DefineValidate,
};

}  // namespace apr
