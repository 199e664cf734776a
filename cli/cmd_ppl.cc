// apr ppl: the perplexity of a text under a model, or of log-probabilities that somebody measured.
#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/eval_flags.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "eval/perplexity.h"

namespace apr {
namespace {

struct PplArgs {
  std::string model;
  EvalFlags eval;
  ComputeFlags compute;
  std::string log_probs;
  std::string save;
  bool force = false;
};

std::string Headline(const PerplexityResult& r) {
  return fmt::format("perplexity {:.6g} ± {:.2g}, mean negative log-probability {:.8f} ± {:.2g} nats over {} tokens", r.ppl,
                     r.ppl_error(), r.mean_nll, r.nll_error, r.num_tokens);
}

Json ResultFields(const PerplexityResult& r) {
  return {{"ppl", JsonNumber(r.ppl)},
          {"ppl_error", JsonNumber(r.ppl_error())},
          {"mean_nll", JsonNumber(r.mean_nll)},
          {"nll_error", JsonNumber(r.nll_error)},
          {"num_tokens", r.num_tokens}};
}

int RunOnFile(const PplArgs& args, Console& console) {
  if (!args.model.empty() || args.eval.prompt.given() > 0 || !args.eval.text_file.empty() || !args.save.empty()) {
    throw Error(ErrorCode::kUsage, "--log-probs-file needs neither model nor text");
  }
  PerplexityResult result;
  try {
    result = PerplexityOf(ReadLogProbabilities(args.log_probs));
  } catch (const Error& error) {
    throw error.With({.file = args.log_probs});
  }
  console.Line(Headline(result));
  if (console.json()) {
    Json out = ResultFields(result);
    out["log_probs_path"] = args.log_probs;
    console.Document(out);
  }
  return 0;
}

void SaveLogProbabilities(const PplArgs& args, const std::vector<double>& values) {
  WriteTextFile(args.save, DumpJson(Json(values), -1) + "\n", args.force ? Overwrite::kAllow : Overwrite::kRefuse);
}

int RunOnModel(const PplArgs& args, Console& console) {
  if (args.model.empty()) throw Error(ErrorCode::kUsage, "no model: give one, or --log-probs-file");
  RequireOneText(args.eval);
  const OpenedModel opened = OpenModel(args.model, ToSessionOptions(args.compute), console);
  const EvalText text = PrepareText(args.eval, *opened.model, console);
  console.Note(DescribePlan(text));

  const auto start = std::chrono::steady_clock::now();
  const InterruptGuard guard;
  int64_t work = 0;
  for (const EvalWindow& w : text.plan.windows) work += w.end - w.begin - 1;
  Progress progress("perplexity", static_cast<uint64_t>(work));
  std::vector<double> values;
  const PerplexityResult result = Perplexity(
      *opened.session, text.ids, text.plan,
      {.progress = [&](int64_t n) { progress.Add(static_cast<uint64_t>(n)); }, .cancelled = InterruptGuard::Raised},
      args.save.empty() ? nullptr : &values);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!args.save.empty()) SaveLogProbabilities(args, values);

  console.Line(Headline(result));
  console.Line(fmt::format("{}; {} executor, precision {}; {:.1f} s, {:.0f} tok/s", DescribePlan(text),
                           ExecutorName(opened.session->executor().kind()), PrecisionInForce(*opened.session), seconds,
                           static_cast<double>(work) / seconds));
  if (console.json()) {
    Json out = {{"model", args.model}};
    out.update(ResultFields(result));
    out["token_mean_nll"] = JsonNumber(result.token_mean_nll);
    out["bits_per_byte"] = text.bytes > 0 ? JsonNumber(result.token_mean_nll * static_cast<double>(result.num_tokens) /
                                                       0.6931471805599453 / static_cast<double>(text.bytes))
                                          : Json(nullptr);
    AddEvalFields(text, out);
    AddComputeFields(*opened.session, out);
    out["load_ms"] = opened.load_ms;
    out["seconds"] = seconds;
    out["tok_per_sec"] = static_cast<double>(work) / seconds;
    console.Document(out);
  }
  return 0;
}

CommandRunner DefinePpl(Flags& app) {
  auto args = std::make_shared<PplArgs>();
  app.AddOption("model", args->model, "file or folder")->TypeName("MODEL");
  AddEvalFlags(app, args->eval);
  app.AddOption("--log-probs-file", args->log_probs, "a JSON array of natural-log probabilities instead of model and text")
      ->TypeName("F.json");
  app.AddOption("--save-log-probs", args->save, "write those of the scored tokens as such a file")->TypeName("F.json");
  app.AddFlag("--force", args->force, "replace an existing file");
  AddComputeFlags(app, args->compute);
  return [args](Console& console) { return args->log_probs.empty() ? RunOnModel(*args, console) : RunOnFile(*args, console); };
}

}  // namespace

const Command kPplCommand = {
    .name = "ppl",
    .group = "Running",
    .summary = "Perplexity of a text, in windows as transformers or llama.cpp cut them",
    .example = "  apr ppl model.gguf --text wiki.txt --precision exact\n"
               "  apr ppl model.gguf --text wiki.txt --mode llama.cpp --window 512 --json\n"
               "  apr ppl --log-probs-file log-probs.json",
    .define = DefinePpl,
};

}  // namespace apr
