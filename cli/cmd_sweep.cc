// apr sweep: every way in which tokens may arrive must give the same bits.
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "cli/prompt.h"
#include "compare/sweep.h"

namespace apr {
namespace {

struct SweepArgs {
  std::string model;
  ComputeFlags compute;
  PromptFlags prompt;
  SweepRequest request;
};

void Print(const SweepReport& report, Console& console) {
  TextTable table("<<>" "<");
  for (const SweepResult& r : report.results) {
    const Style style = r.status == SweepResult::Status::kSame ? Style::kGreen : r.status == SweepResult::Status::kDifferent ? Style::kRed : Style::kDim;
    std::string what = r.detail;
    if (r.first_token) what += fmt::format("; logits differ from token {} on, by up to {:.3g}", *r.first_token, r.max_abs);
    if (r.first) what += fmt::format("; first stage {} of token {}, element {}: {:.9g} in one pass, {:.9g} here", r.first->name, r.first->token, r.first->element, r.first->a, r.first->b);
    table.Row({r.regime, console.Styled(style, SweepStatusName(r.status)), r.status == SweepResult::Status::kSkipped ? "" : fmt::format("{} tokens", r.tokens), what});
  }
  console.Text(table.ToString());
  console.Line(fmt::format("{} regimes compared with one pass of {} ({}), bit by bit: {} differ; {} skipped; {:.1f} s", report.compared(), report.executor, report.precision,
                           report.different(), static_cast<int64_t>(report.results.size()) - report.compared(), report.seconds));
}

int Run(const SweepArgs& args, Console& console) {
  const InterruptGuard interrupt;
  SweepRequest request = args.request;
  request.options = ToSessionOptions(args.compute);
  request.model = Model::Load(args.model);
  if (args.prompt.given() > 0) request.ids = PromptIds(args.prompt, *request.model);
  request.progress = [&](const std::string& regime) { console.Note(regime); };
  request.cancelled = InterruptGuard::Raised;
  const SweepReport report = RunSweep(request);
  if (console.json()) console.Document(report.ToJson());
  else Print(report, console);
  if (report.different() > 0) return ExitCode(ErrorCode::kValidationFailed);
  if (report.compared() == 0) throw Error(ErrorCode::kInconclusive, "no regime could be compared: give more --seconds");
  return 0;
}

CommandRunner DefineSweep(Flags& app) {
  auto args = std::make_shared<SweepArgs>();
  app.AddOption("MODEL", args->model, "a model file or folder")->Required();
  AddComputeFlags(app, args->compute);
  AddPromptFlags(app, args->prompt);
  app.AddOption("--repeats", args->request.repeats, "runs that must give the same bits")->Verify(Check::Range(1, 100000000))->TypeName("N")->ShowDefault();
  app.AddOption("--seconds", args->request.seconds, "for all regimes together; what does not fit is said")->Verify(Check::Positive())->TypeName("S")->ShowDefault();
  app.AddOption("--longest", args->request.longest, "tokens at most, for windows and long positions")->Verify(Check::Range(1, 100000000))->TypeName("N")->ShowDefault();
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kSweepCommand = {
    .name = "sweep",
    .group = "Comparing",
    .summary = "Prefill, decode, chunks, batch, cache, threads, windows: the same bits?",
    .example = "  apr sweep model.gguf\n  apr sweep MODEL_DIR --ids 1,2,3,4,5 --repeats 100\n  apr sweep model.gguf --precision exact --seconds 600 --json",
    .define = DefineSweep,
};

}  // namespace apr
