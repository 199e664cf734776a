// See effect.h.
#include "compare/bisect/effect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "compare/bisect/evaluate.h"

namespace apr::bisect {
namespace {

constexpr double kNothing = 1e-8;  // relative; two evaluations in f64 of the same inputs

bool SameNode(const WalkModel& x, const WalkModel& y, size_t i) {
  const Node& a = x.bound.graph.nodes[i];
  const Node& b = y.bound.graph.nodes[i];
  if (a.op != b.op || a.name != b.name || a.inputs != b.inputs || a.weights.size() != b.weights.size() || a.attributes->Key() != b.attributes->Key()) return false;
  for (size_t w = 0; w < a.weights.size(); ++w) {
    const auto wa = static_cast<size_t>(a.weights[w]), wb = static_cast<size_t>(b.weights[w]);
    if (!(x.slots[wa] == y.slots[wb]) || !(x.bound.graph.weights[wa].shape == y.bound.graph.weights[wb].shape)) return false;
  }
  return true;
}

bool IsTable(const Node& node) { return node.layer < 0 && node.name.starts_with("rope_table"); }

// Layer of the first node that differs or reads one that does; -1: behind all layers; nullopt: none.
std::optional<int> FirstLayer(const WalkModel& x, const WalkModel& y) {
  const auto& nodes = x.bound.graph.nodes;
  std::vector<bool> changed(x.bound.graph.values.size(), false);
  for (size_t i = 0; i < std::min(nodes.size(), y.bound.graph.nodes.size()); ++i) {
    bool differs = !SameNode(x, y, i);
    for (const ValueId input : nodes[i].inputs) differs |= changed[static_cast<size_t>(input)];
    if (!differs) continue;
    if (!IsTable(nodes[i])) return nodes[i].layer < 0 && i * 2 < nodes.size() ? 0 : nodes[i].layer;
    for (const ValueId output : nodes[i].outputs) changed[static_cast<size_t>(output)] = true;
  }
  const auto& others = y.bound.graph.nodes;
  // One graph goes on behind the other's end: the first node there.
  if (nodes.size() != others.size()) return nodes.size() > others.size() ? nodes[others.size()].layer : others[nodes.size()].layer;
  return std::nullopt;
}

ModelConfig Shortened(ModelConfig config, int64_t layers) {
  config.num_layers = layers;
  config.layers.resize(static_cast<size_t>(layers));
  return config;
}

bool Complete(const WalkModel& model) { return std::ranges::all_of(model.present, [](bool present) { return present; }); }

// Both stages from the same recorded values. True: they differ.
bool CompareStage(Evaluator& evaluator, const Variation& a, const Variation& b, const Stage& stage, Effect& out) {
  const Stage* in_a = a.model->bound.graph.FindStage(stage.name, stage.layer);
  const auto index_of = [](const Variation& v, const Stage* s) { return static_cast<int>(s - v.model->bound.graph.stages.data()); };
  out.stage = stage.name;
  if (stage.layer >= 0) out.layer = stage.layer;
  if (in_a == nullptr) {
    out.note = "only B computes this stage";
    return true;
  }
  const auto x = evaluator.Evaluate(a, index_of(a, in_a));
  const auto y = evaluator.Evaluate(b, index_of(b, &stage));
  evaluator.ForgetProducts();
  if (!x || !y) return false;
  if (x->values.size() != y->values.size()) {
    out.note = fmt::format("{} values against {}", x->values.size(), y->values.size());
    return true;
  }
  double sum = 0, total = 0, worst = -1;
  size_t at = 0;
  for (size_t i = 0; i < x->values.size(); ++i) {
    const double difference = std::abs(x->values[i] - y->values[i]);
    sum += difference * difference;
    total += x->values[i] * x->values[i];
    if (difference > worst) {
      worst = difference;
      at = i;
    }
  }
  out.error = std::sqrt(sum / std::max(total, 1e-300));
  if (!(out.error > kNothing)) return false;
  const auto row = static_cast<int64_t>(at) / x->width, column = static_cast<int64_t>(at) % x->width;
  const bool heads = stage.name == "attn_scores" || stage.name == "attn_softmax";
  const int64_t tokens = evaluator.tokens();
  out.coordinate = heads ? std::vector<int64_t>{row / tokens, row % tokens, column} : std::vector<int64_t>{row, column};
  out.a = x->values[at];
  out.b = y->values[at];
  for (int64_t r = 0; r < x->rows && out.position < 0; ++r) {
    double row_sum = 0, row_total = 0;
    for (int64_t i = r * x->width; i < (r + 1) * x->width; ++i) {
      const double difference = x->values[static_cast<size_t>(i)] - y->values[static_cast<size_t>(i)];
      row_sum += difference * difference;
      row_total += x->values[static_cast<size_t>(i)] * x->values[static_cast<size_t>(i)];
    }
    if (std::sqrt(row_sum / std::max(row_total, 1e-300)) > kNothing) out.position = heads ? r % tokens : r;
  }
  return true;
}

// A tensor does not have the shape that one of the two settings asks for: the stage that reads it.
void Misfit(const WalkModel& a, const WalkModel& b, Effect& out) {
  const WalkModel& whole = Complete(b) ? b : a;
  const WalkModel& broken = Complete(b) ? a : b;
  out.differs = true;
  out.note = "the tensor does not have the shape that the setting asks for";
  for (size_t i = 0; i < broken.present.size(); ++i) {
    if (broken.present[i]) continue;
    out.tensor = broken.bound.graph.weights[i].name;
    auto stage = StageReading(whole, broken.slots[i]);
    if (!stage) stage = StageReading(broken, broken.slots[i]);  // only one of the two settings asks for the tensor
    if (stage) std::tie(out.layer, out.stage) = *stage;
    return;
  }
}

// One of the two ends where the other has another layer.
void Ends(const WalkModel& a, const WalkModel& b, Effect& out) {
  const Graph& longer = a.config.num_layers > b.config.num_layers ? a.bound.graph : b.bound.graph;
  const int64_t last = std::min(a.config.num_layers, b.config.num_layers);
  out.differs = true;
  const auto stage = std::ranges::find_if(longer.stages, [&](const Stage& s) { return s.layer == last; });
  if (stage == longer.stages.end()) return;
  out.layer = last;
  out.stage = stage->name;
}

}  // namespace

std::optional<std::pair<std::optional<int64_t>, std::string>> StageReading(const WalkModel& model, const SlotKey& slot) {
  const Graph& graph = model.bound.graph;
  std::vector<bool> reached(graph.values.size(), false);
  bool any = false;
  for (const Node& node : graph.nodes) {
    bool reads = false;
    for (const WeightId w : node.weights) reads |= model.slots[static_cast<size_t>(w)] == slot;
    for (const ValueId input : node.inputs) reads |= reached[static_cast<size_t>(input)];
    if (!reads) continue;
    any = true;
    for (const ValueId output : node.outputs) reached[static_cast<size_t>(output)] = true;
  }
  if (!any) return std::nullopt;
  for (const Stage& stage : graph.stages) {
    for (const ValueId part : stage.parts) {
      if (reached[static_cast<size_t>(part)]) return std::pair{stage.layer >= 0 ? std::optional<int64_t>(stage.layer) : std::nullopt, stage.name};
    }
  }
  return std::nullopt;
}

Effect FindEffect(const Bisection& bisection, const ModelConfig& a, const ModelConfig& b, const Architecture& architecture, const SlotTable& slots,
                  std::shared_ptr<const void> keep_alive) {
  Effect out;
  std::shared_ptr<const WalkModel> full_a, full_b;
  try {
    full_a = BindWalkModel(a, architecture, slots, keep_alive);
    full_b = BindWalkModel(b, architecture, slots, keep_alive);
  } catch (const Error& e) {
    out.note = e.what();
    out.differs = true;
    return out;
  }
  const std::optional<int> first = FirstLayer(*full_b, *full_a);
  if (!first) {
    out.runs = true;
    return out;
  }
  const int64_t layers = *first < 0 ? std::min<int64_t>(1, b.num_layers) : std::min<int64_t>(*first + 1, b.num_layers);
  if (*first < 0 && a.num_layers != b.num_layers) {
    Ends(*full_a, *full_b, out);
    return out;
  }
  const auto short_a = BindWalkModel(Shortened(a, std::min(layers, a.num_layers)), architecture, slots, keep_alive);
  const auto short_b = BindWalkModel(Shortened(b, layers), architecture, slots, keep_alive);
  if (!Complete(*short_b) || !Complete(*short_a)) {
    Misfit(*short_a, *short_b, out);
    return out;
  }
  const Variation va{.model = short_a}, vb{.model = short_b};
  std::vector<const Probe*> probes;
  for (const char* name : {"given", "long", "short", "single"}) {
    for (const Probe& probe : bisection.probes) {
      if (probe.name == name && !(*first < 0 && probe.ids.size() > 64)) probes.push_back(&probe);
    }
  }
  for (const Probe* probe : probes) {
    std::unique_ptr<RecordedRun> run;
    try {
      run = RecordRun(ExecutorKind::kCpu, {short_b, &short_b->bound}, probe->ids, {.threads = bisection.options.threads, .precision = Precision::kExact});
    } catch (const Error& e) {
      out.note = e.what();
      continue;
    }
    out.runs = true;
    Evaluator evaluator(*run, probe->ids, {}, *bisection.pool);
    for (const Stage& stage : short_b->bound.graph.stages) {
      const bool tail = stage.layer < 0;
      if (tail != (*first < 0) || (!tail && stage.layer != *first && stage.name != "embedding")) continue;
      if (CompareStage(evaluator, va, vb, stage, out)) {
        out.differs = true;
        return out;
      }
    }
  }
  out.stage.clear();
  out.layer.reset();
  return out;
}

}  // namespace apr::bisect
