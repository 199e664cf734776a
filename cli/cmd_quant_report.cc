// apr quant-report: what quantising did to a model, and which tensors should have more bits.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
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
#include "eval/quant_report.h"

namespace apr {
namespace {

struct QuantReportArgs {
  std::string a, b;
  EvalFlags eval;
  std::string precision = "exact";
  int threads = 0;
  int64_t probe_tokens = 64;
  int64_t floor_tokens = 64;
  bool no_costs = false;
  std::string suggest, html;
  uint64_t budget = 0;
  bool force = false;
};

std::string Figure(double value) { return std::isinf(value) ? "inf" : fmt::format("{:.4g}", value); }

void PrintPredictions(const QuantReport& r, Console& console) {
  const Divergence& d = r.divergence;
  const double ratio = std::exp(d.log_ratio);
  console.Line(fmt::format("predictions over {} tokens", d.num_tokens));
  console.Line(fmt::format("  mean KLD {:.5g} ± {:.1g}, 99.9 % {:.4g}; same top token {:.2f} % ± {:.2f}; RMS Δp {:.3f} ± {:.1g} points; perplexity B / A {:.5f} ± {:.1g}",
                           d.kld.mean, d.kld.error, Percentile(d.kld.sorted, 99.9), 100 * d.top1, 100 * d.top1_error, d.rms_delta_p, d.rms_delta_p_error,
                           ratio, ratio * d.log_ratio_error));
  if (!r.floor) return;
  console.Line(fmt::format("  floor: rounding alone gives A a mean KLD of {:.3g} from itself in f64 ({} tokens)", r.floor->kld.mean, r.floor->num_tokens));
}

void PrintTensors(const QuantReport& r, Console& console) {
  std::vector<const TensorNoise*> lossy;
  std::vector<const TensorNoise*> suspicious;
  for (const TensorNoise& t : r.tensors) {
    if (!std::isinf(t.sqnr)) lossy.push_back(&t);
    if (t.row.verdict != WeightVerdict::kIdentical && t.row.verdict != WeightVerdict::kExplained) suspicious.push_back(&t);
  }
  std::ranges::stable_sort(lossy, {}, [](const TensorNoise* t) { return t->sqnr; });
  console.Line(fmt::format("tensors: {} compared, {} with noise, {} with more than their types explain", r.tensors.size(), lossy.size(), suspicious.size()));
  TextTable table("<<>>>");
  table.Row({"  noisiest", "type", "SQNR dB", "explained", "error / explained"});
  for (size_t i = 0; i < std::min<size_t>(lossy.size(), 8); ++i) {
    const TensorNoise& t = *lossy[i];
    table.Row({"  " + t.row.name, t.row.stored_b, fmt::format("{:.2f}", t.sqnr), Figure(t.expected_sqnr), Figure(t.row.ratio)});
  }
  console.Text(table.ToString());
  for (const TensorNoise* t : suspicious) console.Warn(fmt::format("{}: {}", t->row.name, t->row.explanation));
}

void PrintOps(const QuantReport& r, Console& console) {
  std::vector<const OpError*> ops;
  for (const OpError& op : r.ops) {
    if (op.own > 0) ops.push_back(&op);
  }
  std::ranges::stable_sort(ops, std::greater<>{}, &OpError::own);
  TextTable table("<>>");
  table.Row({fmt::format("ops over {} tokens, worst first", r.probe_tokens), "by itself", "come together"});
  for (size_t i = 0; i < std::min<size_t>(ops.size(), 8); ++i) table.Row({"  " + ops[i]->node, Figure(ops[i]->own), Figure(ops[i]->propagated)});
  if (!r.ops.empty()) table.Row({"  " + r.ops.back().node + " (last)", Figure(r.ops.back().own), Figure(r.ops.back().propagated)});
  console.Text(table.ToString());
}

void PrintCosts(const QuantReport& r, Console& console) {
  if (r.costs.empty()) return;
  TextTable table("<<>");
  table.Row({"tensors whose bits matter most", "type", "KLD by itself"});
  for (size_t i = 0; i < std::min<size_t>(r.costs.size(), 10); ++i) {
    table.Row({"  " + r.costs[i].tensor, NameOf(r.costs[i].type), fmt::format("{:.4g} ± {:.1g}", r.costs[i].kld, r.costs[i].kld_error)});
  }
  console.Text(table.ToString());
  if (!r.suggestion) return;
  const Suggestion& s = *r.suggestion;
  const auto changed = std::ranges::count_if(s.lines, [](const Suggestion::Line& l) { return l.now != l.type; });
  console.Line(fmt::format("another mix: {} of {} tensors change type, {} bytes for {}, expected mean KLD {:.4g} for {:.4g}", changed, s.lines.size(), s.bytes,
                           s.bytes_now, s.cost, s.cost_now));
}

int Run(const QuantReportArgs& args, Console& console) {
  RequireOneText(args.eval);
  const auto start = std::chrono::steady_clock::now();
  const auto a = Model::Load(args.a);
  const auto b = Model::Load(args.b);
  const EvalText text = PrepareText(args.eval, *a, console);
  const InterruptGuard guard;
  QuantReportOptions options;
  options.compute = {.threads = args.threads, .precision = *PrecisionFromName(args.precision)};
  options.plan = text.plan;
  options.probe_tokens = args.probe_tokens;
  options.floor_tokens = args.floor_tokens;
  options.costs = !args.no_costs;
  options.suggest = !args.suggest.empty();
  options.budget = args.budget;
  options.cancelled = InterruptGuard::Raised;
  std::string phase;
  std::unique_ptr<Progress> progress;
  options.progress = [&](const std::string& name, int64_t, int64_t of) {
    if (name != phase) {
      progress.reset();
      progress = std::make_unique<Progress>(phase = name, static_cast<uint64_t>(of));
    }
    progress->Add(1);
  };
  const QuantReport report = MakeQuantReport(a, b, text.ids, options);
  progress.reset();
  const Overwrite overwrite = args.force ? Overwrite::kAllow : Overwrite::kRefuse;
  if (!args.html.empty()) WriteTextFile(args.html, report.ToHtml(), overwrite);
  if (report.suggestion) WriteTextFile(args.suggest, report.suggestion->FlagList(), overwrite);

  PrintPredictions(report, console);
  PrintTensors(report, console);
  PrintOps(report, console);
  PrintCosts(report, console);
  if (console.json()) {
    Json out = report.ToJson();
    AddEvalFields(text, out);
    out["precision"] = args.precision;
    out["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    console.Document(out);
  }
  return 0;
}

CommandRunner DefineQuantReport(Flags& app) {
  auto args = std::make_shared<QuantReportArgs>();
  app.AddOption("a", args->a, "the model with all its bits: file or folder")->Required()->TypeName("A");
  app.AddOption("b", args->b, "the quantised one")->Required()->TypeName("B");
  AddEvalFlags(app, args->eval);
  app.AddOption("--precision", args->precision, "in which the predictions are computed: exact or fast")
      ->Verify(Check::OneOf({"exact", "fast"}))
      ->TypeName("NAME");
  app.AddOption("--threads", args->threads, "default: as many as the process may use")->Verify(Check::Range(1, 1024))->TypeName("N");
  app.AddOption("--probe-tokens", args->probe_tokens, "tokens on which ops and single tensors are measured (64)")
      ->Verify(Check::Range(2, 1 << 20))
      ->TypeName("N");
  app.AddOption("--floor-tokens", args->floor_tokens, "tokens that A runs in f64 too, to measure rounding (64); 0: none")
      ->Verify(Check::Range(0, INT32_MAX))
      ->TypeName("N");
  app.AddFlag("--no-costs", args->no_costs, "do not measure what each tensor costs by itself");
  app.AddOption("--suggest", args->suggest, "write a mix of types of the same size as flags for apr quantize")->TypeName("FILE");
  app.AddOption("--suggest-bytes", args->budget, "the size of those tensors together (default: as in B)")->TypeName("N");
  app.AddOption("--html", args->html, "write the report as one page")->TypeName("FILE");
  app.AddFlag("--force", args->force, "replace existing files");
  return [args](Console& console) {
    if (args->no_costs && !args->suggest.empty()) throw Error(ErrorCode::kUsage, "--suggest needs the costs that --no-costs leaves out");
    if (args->budget > 0 && args->suggest.empty()) throw Error(ErrorCode::kUsage, "--suggest-bytes goes with --suggest");
    return Run(*args, console);
  };
}

}  // namespace

const Command kQuantReportCommand = {
    .name = "quant-report",
    .group = "Comparing",
    .summary = "What quantising did to tensors, ops and predictions; which tensors should have more bits",
    .example = "  apr quant-report model-f32 model-q4.gguf --text wiki.txt --html report.html\n"
               "  apr quant-report model-f32 model-q4.gguf --text wiki.txt --suggest mix.txt",
    .define = DefineQuantReport,
};

}  // namespace apr
