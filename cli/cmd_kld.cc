// apr kld: the predictions of two models over a text against each other, beside the floor of rounding.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/eval_flags.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "eval/divergence.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

struct KldArgs {
  std::string a, b;
  EvalFlags eval;
  ComputeFlags compute;
  std::string executor_b, precision_b;
  int64_t floor_tokens = 64;
};

// What another tokenizer would make of the text does not enter: both models get A's ids.
void WarnOfOtherVocabulary(const Model& a, const Model& b, Console& console) {
  const auto tokenizer_a = Tokenizer::FromModelFile(a.file());
  const auto tokenizer_b = Tokenizer::FromModelFile(b.file());
  if (tokenizer_a == nullptr || tokenizer_b == nullptr) return;
  if (tokenizer_a->vocabulary_digest() != tokenizer_b->vocabulary_digest()) {
    console.Warn("the two vocabularies are not the same: both models are given A's ids");
  }
}

void PrintDivergence(const Divergence& d, Console& console) {
  const auto percentile = [](const TokenDistribution& t, double p) { return Percentile(t.sorted, p); };
  console.Line(fmt::format("mean KLD        {:.6g} ± {:.2g} nats over {} tokens", d.kld.mean, d.kld.error, d.num_tokens));
  console.Line(fmt::format("KLD             median {:.4g}, 90 % {:.4g}, 99 % {:.4g}, 99.9 % {:.4g}, largest {:.4g}",
                           percentile(d.kld, 50), percentile(d.kld, 90), percentile(d.kld, 99), percentile(d.kld, 99.9),
                           d.kld.sorted.back()));
  console.Line(fmt::format("same top token  {:.3f} % ± {:.3f}", 100 * d.top1, 100 * d.top1_error));
  console.Line(fmt::format("RMS Δp          {:.4g} ± {:.2g} percent points; mean {:.4g}, 1 % {:.4g}, 99 % {:.4g}", d.rms_delta_p,
                           d.rms_delta_p_error, d.delta_p.mean, percentile(d.delta_p, 1), percentile(d.delta_p, 99)));
  console.Line(fmt::format("perplexity      A {:.6g} ± {:.2g}, B {:.6g} ± {:.2g}, B / A {:.6f} ± {:.2g}", d.ppl_a, d.ppl_a_error,
                           d.ppl_b, d.ppl_b_error, std::exp(d.log_ratio), std::exp(d.log_ratio) * d.log_ratio_error));
}

// A in f64 from the formulas against A as it ran: what the rounding of its activations alone does.
std::optional<Divergence> MeasureFloor(const KldArgs& args, const OpenedModel& a, const EvalText& text) {
  if (args.floor_tokens == 0) return std::nullopt;
  SessionOptions exact = ToSessionOptions(args.compute);
  exact.executor = ExecutorKind::kReference;
  Session reference(a.model, exact);
  const WindowPlan plan = text.plan.First(args.floor_tokens);
  Progress progress("floor", static_cast<uint64_t>(plan.scored()));
  return Diverge(reference, *a.session, text.ids, plan,
                 {.progress = [&](int64_t n) { progress.Add(static_cast<uint64_t>(n)); }, .cancelled = InterruptGuard::Raised});
}

void PrintFloor(const Divergence& found, const Divergence& floor, const Session& a, Console& console) {
  console.Line(fmt::format(
      "floor           mean KLD {:.3g} ± {:.2g}, same top token {:.3f} %, RMS Δp {:.3g}: A in f64 against A as run ({}), {} tokens",
      floor.kld.mean, floor.kld.error, 100 * floor.top1, floor.rms_delta_p, PrecisionInForce(a), floor.num_tokens));
  if (floor.kld.mean > 0) console.Line(fmt::format("                the mean KLD is {:.3g} times the floor", found.kld.mean / floor.kld.mean));
}

Json Report(const KldArgs& args, const EvalText& text, const Session& a, const Session& b, const Divergence& d,
            const std::optional<Divergence>& floor) {
  Json out = {{"model_a", args.a}, {"model_b", args.b}};
  out.update(d.ToJson());
  out["floor"] = nullptr;
  if (floor) {
    out["floor"] = floor->ToJson();
    out["floor"]["how"] = "A in f64 from the formulas against A as run";
  }
  out["kld_over_floor"] = floor && floor->kld.mean > 0 ? JsonNumber(d.kld.mean / floor->kld.mean) : Json(nullptr);
  AddEvalFields(text, out);
  AddComputeFields(a, out);
  out["executor_b"] = ExecutorName(b.executor().kind());
  out["precision_b"] = PrecisionInForce(b);
  return out;
}

int Run(const KldArgs& args, Console& console) {
  RequireOneText(args.eval);
  ComputeFlags compute_b = args.compute;
  if (!args.executor_b.empty()) compute_b.executor = args.executor_b;
  if (!args.precision_b.empty()) compute_b.precision = args.precision_b;
  const OpenedModel a = OpenModel(args.a, ToSessionOptions(args.compute), console);
  const OpenedModel b = OpenModel(args.b, ToSessionOptions(compute_b), console);
  const EvalText text = PrepareText(args.eval, *a.model, console);
  WarnOfOtherVocabulary(*a.model, *b.model, console);
  const auto start = std::chrono::steady_clock::now();
  const InterruptGuard guard;
  int64_t work = 0;
  for (const EvalWindow& w : text.plan.windows) work += w.end - w.begin - 1;
  auto progress = std::make_unique<Progress>("divergence", static_cast<uint64_t>(work));
  const Divergence found = Diverge(
      *a.session, *b.session, text.ids, text.plan,
      {.progress = [&](int64_t n) { progress->Add(static_cast<uint64_t>(n)); }, .cancelled = InterruptGuard::Raised});
  progress.reset();
  const auto floor = MeasureFloor(args, a, text);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  PrintDivergence(found, console);
  if (floor) PrintFloor(found, *floor, *a.session, console);
  console.Line(fmt::format("{}; precision A {}, B {}; {:.1f} s", DescribePlan(text), PrecisionInForce(*a.session),
                           PrecisionInForce(*b.session), seconds));
  if (console.json()) {
    Json out = Report(args, text, *a.session, *b.session, found, floor);
    out["seconds"] = seconds;
    console.Document(out);
  }
  return 0;
}

CommandRunner DefineKld(Flags& app) {
  auto args = std::make_shared<KldArgs>();
  app.AddOption("a", args->a, "the model that is right: file or folder")->Required()->TypeName("A");
  app.AddOption("b", args->b, "the model that is judged")->Required()->TypeName("B");
  AddEvalFlags(app, args->eval);
  app.AddOption("--executor-b", args->executor_b, "of B, where it is another than A's")
      ->Verify(Check::OneOf({"cpu", "reference"}))
      ->TypeName("NAME");
  app.AddOption("--precision-b", args->precision_b, "of B, where it is another than A's")
      ->Verify(Check::OneOf({"exact", "fast"}))
      ->TypeName("NAME");
  app.AddOption("--floor-tokens", args->floor_tokens, "tokens that A runs in f64 too, to measure rounding (64); 0: none")
      ->Verify(Check::Range(0, INT32_MAX))
      ->TypeName("N");
  AddComputeFlags(app, args->compute);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kKldCommand = {
    .name = "kld",
    .group = "Running",
    .summary = "How far the predictions of two models lie apart over a text, beside the floor of rounding",
    .example = "  apr kld model-f32 model-q4.gguf --text wiki.txt --precision exact\n"
               "  apr kld model.gguf model.gguf --text wiki.txt --precision exact --precision-b fast --json",
    .define = DefineKld,
};

}  // namespace apr
