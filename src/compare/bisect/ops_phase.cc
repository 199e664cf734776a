// The ops phase of a bisection, with the logits: B's run walked against A's computation. A run is a stage directory or
// what B's executor computes from B's own file, whose weights were compared before.
#include <fmt/format.h>

#include <algorithm>

#include "compare/bisect/bisection.h"
#include "compare/bisect/walk.h"
#include "generate/trace.h"
#include "quant/quant.h"

namespace apr::bisect {
namespace {

const Probe* FindProbe(const Bisection& b, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto it = std::ranges::find(b.probes, name, &Probe::name);
    if (it != b.probes.end()) return &*it;
  }
  return nullptr;
}

// How loading A's weights in the type that the run declares changes them.
void WeightFormats(const Side& a, RunFormats& formats) {
  if (formats.weights.empty()) return;
  const auto declared = DTypeFromName(formats.weights);
  if (declared && IsQuantized(*declared)) {
    bool same = false;
    for (const auto& [key, slot] : a.slots.slots) same |= slot.weight.view.dtype == *declared;
    if (!same) formats.weight_error = TypicalRelativeError(*declared) * 1.3;
    if (NameOf(*declared)[std::string_view(NameOf(*declared)).size() - 1] == 'K') formats.int8_block = 256;
    return;
  }
  if (const auto type = FloatTypeFromName(formats.weights)) {
    if (type->name == "bf16" || type->name == "f16") formats.weight_rounding = *type;
    if (type->name.starts_with("f8")) formats.weight_error = type->unit / 2;
  }
}

// Values of a run that says nothing about itself: the narrowest type that holds them all.
void GuessFormats(RecordedRun& run, RunFormats& formats, Bisection& b) {
  if (formats.declared) return;
  for (const char* name : {"bf16", "f16"}) {
    const FloatType type = *FloatTypeFromName(name);
    int64_t held = 0, total = 0;
    for (const std::string& stage : run.Names()) {
      if (total > 20000) break;
      if (stage.ends_with("moe_router_indices") || stage.ends_with("attn_scores") || stage.ends_with("attn_softmax") || stage.ends_with("moe_router")) continue;
      for (const double v : run.Find(stage)->values) {
        if (!std::isfinite(v) || v == 0) continue;
        ++total;
        held += RoundTo(type, v) == v ? 1 : 0;
      }
    }
    if (total > 0 && held == total) {
      formats.activations = type;
      b.Note(fmt::format("B declares no number format; every value it recorded is a {}", type.name));
      return;
    }
  }
  b.Note("B declares no number format; f32 is assumed");
}

bool CheckIds(Bisection& b, const std::vector<int32_t>& ids, const Side& model) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < model.config.vocab_size) continue;
    b.inconclusive = fmt::format("id {} is outside the vocabulary of {}", id, model.config.vocab_size);
    return false;
  }
  return true;
}

void WalkDirectory(Bisection& b) {
  const StageManifest& manifest = b.b.stages->manifest();
  const Probe* probe = FindProbe(b, {"captured", "given"});
  if (probe == nullptr) {
    b.inconclusive = "the stage directory does not say which ids were run: give --ids";
    return;
  }
  if (probe->name == "given" && !manifest.ids.empty() && !std::ranges::equal(probe->ids, manifest.ids)) {
    b.inconclusive = "the ids given are not those of the stage directory";
    return;
  }
  if (b.a.config_problem || b.a.slot_problem) {
    b.inconclusive = fmt::format("A cannot be computed: {}", (b.a.config_problem ? b.a.config_problem : b.a.slot_problem)->what());
    return;
  }
  if (!CheckIds(b, probe->ids, b.a)) return;
  const std::unique_ptr<RecordedRun> run = OpenRecordedRun(*b.b.stages);
  RunFormats formats = FormatsOf(manifest);
  GuessFormats(*run, formats, b);
  WeightFormats(b.a, formats);
  Evaluator evaluator(*run, probe->ids, formats, *b.pool);
  Walk walk(b, evaluator, b.a.slots, BindWalkModel(b.a.config, *b.a.architecture, b.a.slots, b.a.file));
  walk.Run();
  b.report.ids.assign(probe->ids.begin(), probe->ids.end());
  if (b.report.coverage.stages_compared == 0 && !b.has_difference() && b.inconclusive.empty()) {
    b.inconclusive = "no recorded stage is one of A's graph and can be computed";
  }
}

// B's own executor on B's own weights (as corrected), against f64.
void WalkModels(Bisection& b) {
  if (b.a.architecture == nullptr || b.b.architecture == nullptr) return;
  const Probe* probe = FindProbe(b, {"given", "short"});
  if (probe == nullptr || probe->ids.empty() || !CheckIds(b, probe->ids, b.b)) return;
  const auto model = BindWalkModel(b.b.config, *b.b.architecture, b.b.slots, b.b.file);
  if (!std::ranges::all_of(model->present, [](bool present) { return present; })) {
    b.Note("B's weights are not complete: its executor cannot run");
    return;
  }
  const std::shared_ptr<const BoundGraph> bound(model, &model->bound);
  ExecutorOptions options{.threads = b.options.threads, .precision = Precision::kFast};
  std::unique_ptr<RecordedRun> run;
  try {
    run = RecordRun(b.b.executor, bound, probe->ids, options);
  } catch (const Error& e) {
    b.Note(fmt::format("B cannot run: {}", e.what()));
    return;
  }
  StageManifest manifest;
  manifest.precision = PrecisionOf(bound->weights, b.b.executor, Precision::kFast);
  RunFormats formats = FormatsOf(manifest);
  const auto type = DTypeFromName(formats.weights);
  if (type && NameOf(*type)[std::string_view(NameOf(*type)).size() - 1] == 'K') formats.int8_block = 256;
  Evaluator evaluator(*run, probe->ids, formats, *b.pool);
  Walk walk(b, evaluator, b.b.slots, model);
  walk.Run();
  if (b.report.ids.empty()) b.report.ids.assign(probe->ids.begin(), probe->ids.end());
}

}  // namespace

void RunOpsPhase(Bisection& b) {
  if (b.a.problem || b.b.problem) return;
  if (b.a.is_model() && b.b.stages) WalkDirectory(b);
  else if (b.a.is_model() && b.b.is_model()) WalkModels(b);
  else b.Note("this pair of sides has no ops phase");
}

}  // namespace apr::bisect
