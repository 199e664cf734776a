// The ops phase of a bisection, with the logits: B's run walked against A's computation. A run is a stage directory or
// what B's executor computes from B's own file, whose weights were compared before.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "compare/bisect/bisection.h"
#include "compare/bisect/stage_pair.h"
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

// A run and the model that it should be one of. `model_is_a`: else the run is trusted and the model the suspect.
void WalkDirectory(Bisection& b, const Side& model, const Side& captured, bool model_is_a) {
  const StageManifest& manifest = captured.stages->manifest();
  const Probe* probe = FindProbe(b, {"given", "captured"});
  if (probe == nullptr) {
    b.inconclusive = "the stage directory does not say which ids were run: give --ids";
    return;
  }
  if (probe->name == "given" && !manifest.ids.empty() && !std::ranges::equal(probe->ids, manifest.ids)) {
    b.inconclusive = "the ids given are not those of the stage directory";
    return;
  }
  if (model.config_problem || model.slot_problem) {
    b.inconclusive = fmt::format("the model cannot be computed: {}", (model.config_problem ? model.config_problem : model.slot_problem)->what());
    return;
  }
  if (!manifest.architecture.empty() && FindByModelType(manifest.architecture) != model.architecture) {
    b.Note(fmt::format("the run calls itself a {}, the model is a {}", manifest.architecture, model.config.architecture));
  }
  if (!CheckIds(b, probe->ids, model)) return;
  const std::unique_ptr<RecordedRun> run = OpenRecordedRun(*captured.stages);
  RunFormats formats = FormatsOf(manifest);
  GuessFormats(*run, formats, b);
  WeightFormats(model, formats);
  Evaluator evaluator(*run, probe->ids, formats, *b.pool);
  const size_t before = b.report.findings.size();
  Walk walk(b, evaluator, model.slots, BindWalkModel(model.config, *model.architecture, model.slots, model.file));
  walk.Run();
  for (size_t i = before; !model_is_a && i < b.report.findings.size(); ++i) {
    Finding& f = b.report.findings[i];
    std::swap(f.first.a, f.first.b);
    if (f.cause) std::swap(f.cause->a, f.cause->b);
  }
  b.report.ids.assign(probe->ids.begin(), probe->ids.end());
  if (b.report.coverage.stages_compared == 0 && !b.has_difference() && b.inconclusive.empty()) {
    b.inconclusive = "no recorded stage is one of the model's graph and can be computed";
  }
}

// Two runs: with the model that A's manifest names, if it is there, else by themselves.
void WalkPair(Bisection& b) {
  const std::string& path = b.a.stages->manifest().model;
  std::error_code ignored;
  if (!path.empty() && std::filesystem::exists(path, ignored) && b.a.stages->manifest().ids == b.b.stages->manifest().ids) {
    try {
      const Side model = OpenSide(path);
      if (model.is_model() && !model.config_problem && !model.slot_problem) {
        b.Note(fmt::format("A's stages are those of {}: B's are computed again with it", path));
        WalkDirectory(b, model, b.b, true);
        return;
      }
    } catch (const Error& e) {
      b.Note(fmt::format("the model that A's manifest names cannot be opened: {}", e.what()));
    }
  }
  CompareStageDirectories(b);
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
  const bool rounding = b.rounding;
  Walk walk(b, evaluator, b.b.slots, model);
  walk.Run();
  if (b.a.executor == b.b.executor) b.rounding = rounding;  // A's own run rounds alike
  if (b.report.ids.empty()) b.report.ids.assign(probe->ids.begin(), probe->ids.end());
}

}  // namespace

void RunOpsPhase(Bisection& b) {
  if (b.a.problem || b.b.problem) return;
  if (b.a.is_model() && b.b.stages) WalkDirectory(b, b.a, b.b, true);
  else if (b.a.stages && b.b.is_model()) WalkDirectory(b, b.b, b.a, false);
  else if (b.a.stages && b.b.stages) WalkPair(b);
  else if (b.a.is_model() && b.b.is_model()) WalkModels(b);
}

}  // namespace apr::bisect
