// apr parity: one prompt through two ways of computing a model, position by position.
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
#include "compare/parity.h"
#include "generate/ids.h"

namespace apr {
namespace {

struct ParityArgs {
  std::string model, a = "reference", b = "cpu";
  PromptFlags prompt;
  bool require = false;
  bool per_op = false;
  int64_t min_positions = 0;
  int threads = 0;
};

// The prompt asked for; else the usual question, as ids 1, 2, ... where the model has no tokenizer.
std::vector<int32_t> Tokens(const ParityArgs& args, const Model& model) {
  if (args.prompt.given() > 0) return PromptIds(args.prompt, model);
  if (Tokenizer::FromModelFile(model.file()) != nullptr) return PromptIds(PromptFlags{.text = "What is 2+2?"}, model);
  std::vector<int32_t> ids;
  for (int32_t id = 1; id <= 16 && id < model.config().vocab_size; ++id) ids.push_back(id);
  return ids;
}

void Print(const ParityReport& report, Console& console) {
  TextTable table(">>>>>>>>>" "<");
  table.Row({"position", "token", "argmax A", "argmax B", "max diff", "cosine", "rel. error", "KL", "cpk", "verdict"});
  for (const ParityMetric& m : report.metrics) {
    table.Row({fmt::to_string(m.position), fmt::to_string(m.token), fmt::to_string(m.argmax_a), fmt::to_string(m.argmax_b), fmt::format("{:.3g}", m.max_abs),
               fmt::format("{:.6f}", m.cosine), fmt::format("{:.2g}", m.relative_error), fmt::format("{:.2g}", m.kl), fmt::format("{:.3g}", m.cpk), ParityVerdictName(m.verdict)});
  }
  console.Text(table.ToString());
  if (report.stages > 0 && !report.first) console.Line(fmt::format("{} stages compared: none beyond a relative error of {}", report.stages, report.allowed));
  if (report.first) {
    std::string at;
    for (const int64_t c : report.first->coordinate) at += (at.empty() ? "" : ", ") + std::to_string(c);
    console.Line(fmt::format("first differing stage: {} (relative error {:.3g}, {} allowed); {:.6g} in A, {:.6g} in B at [{}]", report.first->name,
                             report.first->relative_error, report.first->allowed, report.first->a, report.first->b, at));
  }
  console.Line(fmt::format("{} against {}: {} of {} positions agree, {} warned, {} failed", report.a, report.b, static_cast<int64_t>(report.metrics.size()) - report.failed(),
                           report.metrics.size(), report.warned(), report.failed()));
  if (const std::string diagnosis = report.Diagnosis(); !diagnosis.empty()) console.Line(diagnosis);
}

int Run(const ParityArgs& args, Console& console) {
  ParityRequest request;
  request.a = ParseParityEngine(args.a);
  request.b = ParseParityEngine(args.b);
  const InterruptGuard interrupt;
  request.model = Model::Load(args.model);
  request.ids = Tokens(args, *request.model);
  request.per_op = args.per_op;
  request.threads = args.threads;
  request.hooks.cancelled = InterruptGuard::Raised;
  const ParityReport report = RunParity(request);
  if (console.json()) console.Document(report.ToJson());
  else Print(report, console);
  if (!report.parity()) return ExitCode(ErrorCode::kValidationFailed);
  if (static_cast<int64_t>(report.metrics.size()) < args.min_positions) {
    throw Error(ErrorCode::kInconclusive, fmt::format("{} positions ran, --min-positions asks for {}", report.metrics.size(), args.min_positions));
  }
  return args.require && report.warned() > 0 ? ExitCode(ErrorCode::kValidationFailed) : 0;
}

CommandRunner DefineParity(Flags& app) {
  auto args = std::make_shared<ParityArgs>();
  app.AddOption("MODEL", args->model, "a model file or folder")->Required();
  app.AddOption("--a", args->a, "the side to be right by: reference, cpu, cpu:exact, cpu:fast, with an instruction set cpu:exact:avx2, cuda")->TypeName("EXEC")->ShowDefault();
  app.AddOption("--b", args->b, "the side in question: likewise")->TypeName("EXEC")->ShowDefault();
  AddPromptFlags(app, args->prompt);
  app.AddFlag("--assert", args->require, "warnings count as failures: another best token, a logit off by more than 4");
  app.AddFlag("--per-op", args->per_op, "compare every stage and name the first that differs");
  app.AddOption("--min-positions", args->min_positions, "fewer positions are no verdict (exit 12); a release check asks for 64")->Verify(Check::NonNegative())->TypeName("N");
  app.AddOption("--threads", args->threads, "default: as many as the process may use")->Verify(Check::Range(1, 1024))->TypeName("N");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kParityCommand = {
    .name = "parity",
    .group = "Comparing",
    .summary = "One prompt through two executors, precisions or instruction sets",
    .example = "  apr parity model.gguf\n  apr parity MODEL_DIR --a cpu:exact:scalar --b cpu:exact --per-op\n  apr parity model.gguf -p 'What is 2+2?' --assert --json",
    .define = DefineParity,
};

}  // namespace apr
