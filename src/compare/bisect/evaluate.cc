// See evaluate.h.
#include "compare/bisect/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "compare/bisect/attention_pieces.h"
#include "compare/bisect/product.h"
#include "op/activation/activation.h"
#include "op/add_bias/add_bias.h"
#include "op/attention/attention.h"
#include "op/elementwise/elementwise.h"
#include "op/embedding/embedding.h"
#include "op/latent/latent.h"
#include "op/linear/linear.h"
#include "op/moe/moe_experts.h"
#include "op/moe/moe_route.h"
#include "op/norm/norm.h"
#include "op/rope/rope.h"
#include "op/select_rows/select_rows.h"
#include "quant/quant.h"

namespace apr::bisect {
namespace {

constexpr double kAngleUnit = 0x1p-24;  // engines compute angles in f32 at best

constexpr double kAngleUnits = 4;         // of inverse frequencies, their powers and products
constexpr double kPairUnits = 0.5;           // more for each pair before it: ggml multiplies its way from one frequency to the next
constexpr double kTableUnit = 0x1p-11;    // engines with int8 products read GELU from a table of f16, by f16
constexpr double kErfError = 0.75e-7;     // of 0.5 erf in f32 vector libraries (Abramowitz and Stegun 7.1.26)

// Something that an evaluation needs is not there.
struct Absent {
  std::string what;
};

// x as int8 with one scale per block: how engines feed products with quantised weights.
void RoundToInt8(std::vector<double>& x, int64_t width, int64_t block) {
  for (size_t row = 0; row < x.size(); row += static_cast<size_t>(width)) {
    for (int64_t at = 0; at < width; at += block) {
      double* v = x.data() + row + at;
      const int64_t n = std::min(block, width - at);
      double largest = 0;
      for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(v[i]));
      const double scale = largest / 127;
      if (!(scale > 0) || !std::isfinite(scale)) continue;
      for (int64_t i = 0; i < n; ++i) v[i] = std::nearbyint(v[i] / scale) * scale;
    }
  }
}

// Variance of that rounding, uniform over a step, added to each element of `variance`.
void AddInt8Variance(const std::vector<double>& x, int64_t width, int64_t block, std::vector<double>& variance) {
  for (size_t row = 0; row < x.size(); row += static_cast<size_t>(width)) {
    for (int64_t at = 0; at < width; at += block) {
      const size_t first = row + static_cast<size_t>(at), count = static_cast<size_t>(std::min(block, width - at));
      double largest = 0;
      for (size_t i = first; i < first + count; ++i) largest = std::max(largest, std::abs(x[i]));
      const double step = largest / 127;
      for (size_t i = first; i < first + count; ++i) variance[i] += step * step / 12;
    }
  }
}

void RoundAll(std::vector<double>& x, const FloatType& type) {
  for (double& v : x) v = RoundTo(type, v);
}

// The weight as an engine holds it that loads it in a narrower type.
WeightRef Rounded(const WeightRef& weight, const FloatType& type) {
  auto tensor = std::make_shared<Tensor>(DType::kF64, weight.view.shape);
  const std::vector<double> values = ReadWeightF64(weight);
  std::span<double> out = tensor->f64();
  for (size_t i = 0; i < out.size(); ++i) out[i] = RoundTo(type, values[i]);
  WeightRef made;
  made.view = tensor->view();
  made.owned = tensor;
  made.source = weight.source;
  return made;
}

int RoundingsOf(const Node& node) {
  if (node.op == &NormOp() || node.op == &ActivationOp() || node.op == &RopeOp()) return 2;
  if (node.op == &EmbeddingOp()) return node.As<EmbeddingAttributes>().scale == 1 ? 1 : 2;
  if (node.op == &AddOp()) return node.As<AddAttributes>().scale == 1 ? 1 : 2;
  if (node.op == &SoftcapOp() || node.op == &ClampedSwigluOp() || node.op == &SigmoidGateOp()) return 4;
  if (node.op == &MoeRouteOp()) return 3;
  if (node.op == &MoeExpertsOp()) return 3;
  return 1;
}

}  // namespace

// Uniform in [-1, 1] (xorshift64*, Vigna 2016, arXiv 1402.6246).
class EvaluationNoise {
 public:
  explicit EvaluationNoise(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 1) {}
  double Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<double>(static_cast<int64_t>((state_ * 0x2545F4914F6CDD1DULL) >> 11)) * 0x1p-52 - 1;
  }
  void Move(std::vector<double>& x, double relative) {
    if (relative == 0) return;
    for (double& v : x) v *= 1 + relative * Next();
  }

 private:
  uint64_t state_;
};

class Evaluation {
 public:
  Evaluation(Evaluator& e, const Variation& v, int limit, uint64_t seed)
      : e_(e), v_(v), graph_(v.model->bound.graph), limit_(limit), seed_(seed), noise_(seed) {
    rows_ = e.tokens();
    for (const char* name : {"lm_head", "final_norm"}) {
      if (!e.run_.Has(name)) continue;
      const RecordedStage* stage = e.run_.Find(name);
      if (stage->shape.ndim() == 2) rows_ = std::min(rows_, stage->shape[0]);
    }
  }

  const std::vector<double>& Get(ValueId id) {
    if (const auto it = made_.find(id); it != made_.end()) return it->second;
    if (auto recorded = Recorded(id)) return made_[id] = std::move(*recorded);
    return Produce(id, false);
  }

  // What the last op makes, for the stage itself.
  const std::vector<double>& Target(ValueId id) {
    if (auto recorded = Recorded(id)) return made_[id] = std::move(*recorded);
    return Produce(id, true);
  }

  // Standard deviation of each element of a product of recorded values (with a bias): what rounding those to int8 and
  // the product's own arithmetic amount to. nullopt: `id` is none.
  std::optional<std::vector<double>> SpreadOf(ValueId id) {
    const Node* node = ProducerOf(id);
    while (node != nullptr && node->op == &AddBiasOp() && !IsRecorded(node->inputs[0])) node = ProducerOf(node->inputs[0]);
    if (node == nullptr || node->op != &LinearOp()) return std::nullopt;
    const std::optional<std::vector<double>> x = Recorded(node->inputs[0]);
    const auto weight = static_cast<size_t>(node->weights[0]);
    if (!x || !v_.model->present[weight]) return std::nullopt;
    const double error = InternalError(*node, node->outputs[0]);
    std::vector<double> variance(x->size());
    for (size_t i = 0; i < x->size(); ++i) variance[i] = error * error / 3 * (*x)[i] * (*x)[i];
    if (e_.formats_.int8_activations && IsQuantized(*node)) AddInt8Variance(*x, WidthOf(node->inputs[0]), e_.formats_.int8_block, variance);
    std::vector<double> out(x->size() / static_cast<size_t>(WidthOf(node->inputs[0])) * static_cast<size_t>(WidthOf(node->outputs[0])));
    ProductSpread({v_.model->bound.weights[weight], LoadedAs(), variance}, e_.pool_, out);
    return out;
  }

  bool IsRecorded(ValueId id) { return Recorded(id).has_value(); }
  int roundings() const { return roundings_; }
  double input_error() const { return input_error_; }
  double slack() const { return slack_; }
  double unit() const { return unit_; }
  int64_t RowsOf(const Value& value) const { return value.kind == ValueKind::kLogitRows ? rows_ : e_.tokens(); }

 private:
  const Node* ProducerOf(ValueId id) const {
    const int producer = graph_.values[static_cast<size_t>(id)].producer;
    return producer < 0 ? nullptr : &graph_.nodes[static_cast<size_t>(producer)];
  }

  std::optional<std::vector<double>> Recorded(ValueId id) {
    const auto it = v_.model->users.find(id);
    if (it == v_.model->users.end()) return std::nullopt;
    for (size_t i = it->second.size(); i-- > 0;) {
      const auto [index, part] = it->second[i];
      if (index >= limit_) continue;
      if (auto values = Slice(graph_.stages[static_cast<size_t>(index)], part)) return values;
    }
    return std::nullopt;
  }

  // Part `part` of a recorded stage; nullopt where it was not recorded or has another width.
  std::optional<std::vector<double>> Slice(const Stage& stage, int part) {
    if (!e_.run_.Has(stage.Path())) return std::nullopt;
    const RecordedStage* recorded = e_.run_.Find(stage.Path());
    int64_t width = 0, column = 0;
    for (size_t p = 0; p < stage.parts.size(); ++p) {
      if (static_cast<int>(p) == part) column = width;
      width += graph_.values[static_cast<size_t>(stage.parts[p])].width;
    }
    const Value& value = graph_.values[static_cast<size_t>(stage.parts[static_cast<size_t>(part)])];
    const auto count = static_cast<int64_t>(recorded->values.size());
    if (value.kind == ValueKind::kScores) {
      if (count != value.width * e_.tokens() * e_.tokens()) return std::nullopt;
      return recorded->values;
    }
    const int64_t rows = RowsOf(value);
    if (count != rows * width) return std::nullopt;
    if (stage.parts.size() == 1) return recorded->values;
    std::vector<double> out(static_cast<size_t>(rows * value.width));
    for (int64_t r = 0; r < rows; ++r) std::copy_n(recorded->values.begin() + r * width + column, value.width, out.begin() + r * value.width);
    return out;
  }

  // GELU of such engines is exact to f16 only.
  bool ReadsTable(const Node& node) const {
    if (!e_.formats_.int8_activations || node.op != &ActivationOp()) return false;
    const std::string& kind = node.As<ActivationAttributes>().kind;
    return kind == "gelu" || kind == "gelu_tanh" || kind == "quick_gelu";
  }
  double UnitOf(const Node& node) const { return ReadsTable(node) ? std::max(kTableUnit, e_.formats_.activations.unit) : e_.formats_.activations.unit; }

  const std::vector<double>& Produce(ValueId id, bool target) {
    const int producer = graph_.values[static_cast<size_t>(id)].producer;
    if (producer < 0) throw Absent{"token ids"};
    const Node& node = graph_.nodes[static_cast<size_t>(producer)];
    const double error = InternalError(node, id);
    input_error_ = std::max(input_error_, error);
    if (target) {
      roundings_ = std::max(roundings_, RoundingsOf(node));
      unit_ = std::max(unit_, UnitOf(node));
      elementwise_ = node.op == &MulOp();
    } else if (elementwise_ && ReadsTable(node)) {  // an element of the product is as exact as its factor
      unit_ = std::max(unit_, UnitOf(node));
      roundings_ = std::max(roundings_, RoundingsOf(node));
    }
    std::vector<double> out = node.op == &AttentionOp() ? Attention(node, id, error) : node.op == &MoeRouteOp() ? Route(node, id, error) : Plain(node, id, error);
    if (node.op == &AttentionOp()) {
      for (const NodeRule& rule : v_.rules) {
        if (rule({node, graph_, {}, e_.tokens()}, out)) break;
      }
    }
    if (IsChoice(id)) return made_[id] = std::move(out);
    if (v_.narrow.outputs) RoundAll(out, *v_.narrow.outputs);
    if (seed_ != 0 && !target) noise_.Move(out, UnitOf(node));
    if (seed_ != 0 && node.op == &RopeTableOp()) MoveAngles(node, out);
    return made_[id] = std::move(out);
  }

  // Numbers of experts: no error moves them, and 2.9999999 is another expert than 3.
  bool IsChoice(ValueId id) const {
    const int producer = id < 0 ? -1 : graph_.values[static_cast<size_t>(id)].producer;
    if (producer < 0) return false;
    const Node& node = graph_.nodes[static_cast<size_t>(producer)];
    return node.op == &MoeRouteOp() && id == node.outputs[1];
  }

  // Relative error of an op's inputs to which its own arithmetic is equivalent (Higham, Accuracy and Stability
  // of Numerical Algorithms, 3.1, with the square root of the count for random signs).
  // Fused kernels go on with values that were rounded only to be recorded: hence at least one rounding of the inputs
  // where sums are wider than activations.
  double InternalError(const Node& node, ValueId id) const {
    const bool wider = e_.formats_.accumulate.unit < e_.formats_.activations.unit;
    return std::max(ArithmeticError(node, id), wider ? e_.formats_.activations.unit : 0);
  }
  double ArithmeticError(const Node& node, ValueId id) const {
    const double u = e_.formats_.accumulate.unit;
    const double single = std::max(u, 0x1p-24);  // transformers takes norms, softmax and routing in f32, whatever the type of the run
    const auto root = [](int64_t n) { return std::sqrt(static_cast<double>(n)); };
    if (node.op == &LinearOp()) return u * (1 + root(WidthOf(node.inputs[0])) / 2) + 1.8 * e_.formats_.weight_error;
    if (node.op == &NormOp()) return single * 4;
    if (ReadsTable(node)) return kTableUnit;
    if (node.op == &RopeOp()) return e_.formats_.activations.unit;
    if (node.op == &AttentionOp()) {
      if (id == node.outputs[1]) return u * (1 + root(node.As<AttentionAttributes>().k_dim) / 2) + e_.formats_.activations.unit;
      if (id == node.outputs[2]) return single * 4;
      return u * (1 + root(e_.tokens()) / 2) + e_.formats_.activations.unit / 2;
    }
    if (node.op == &MoeExpertsOp()) {
      return e_.formats_.activations.unit * 2 + u * (1 + root(std::max(WidthOf(node.inputs[0]), node.As<MoeExpertsAttributes>().ffn)) / 2) +
             2.5 * e_.formats_.weight_error;
    }
    if (node.op == &MoeRouteOp()) return single * 4;
    if (node.op == &AddOp()) return node.As<AddAttributes>().scale == 1 ? 0 : e_.formats_.activations.unit;
    return u;
  }
  int64_t WidthOf(ValueId id) const { return graph_.values[static_cast<size_t>(id)].width; }

  bool IsQuantized(const Node& node) const {
    for (const WeightId id : node.weights) {
      if (apr::IsQuantized(v_.model->bound.weights[static_cast<size_t>(id)].view.dtype)) return true;
    }
    const auto declared = DTypeFromName(e_.formats_.weights);
    return declared && apr::IsQuantized(*declared);
  }

  std::vector<double> Input(const Node& node, size_t i, double error) {
    std::vector<double> x = Get(node.inputs[i]);
    if (IsChoice(node.inputs[i])) return x;
    if (v_.narrow.inputs) RoundAll(x, *v_.narrow.inputs);
    if (v_.narrow.int8_block != 0 && node.op == &LinearOp()) RoundToInt8(x, WidthOf(node.inputs[i]), v_.narrow.int8_block > 0 ? v_.narrow.int8_block : WidthOf(node.inputs[i]));
    if (seed_ == 0) return x;
    if (i == 0 && e_.formats_.int8_activations && (node.op == &LinearOp() || node.op == &MoeExpertsOp()) && IsQuantized(node)) {
      RoundToInt8(x, WidthOf(node.inputs[i]), e_.formats_.int8_block);
    }
    if (e_.formats_.int8_activations && node.op == &AttentionOp()) noise_.Move(x, 0x1p-11);  // such engines cache keys and values as f16
    noise_.Move(x, error);
    return x;
  }

  std::vector<double> Plain(const Node& node, ValueId id, double error) {
    const std::string memo = ProductKey(node);
    if (const auto it = e_.products_.find(memo); !memo.empty() && it != e_.products_.end()) return it->second;
    std::vector<std::vector<double>> inputs;
    std::vector<WeightRef> rounded;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == Graph::kTokenIds) inputs.emplace_back();
      else inputs.push_back(Input(node, i, error));
    }
    std::vector<const WeightRef*> weights;
    rounded.reserve(node.weights.size());
    for (const WeightId w : node.weights) {
      if (!v_.model->present[static_cast<size_t>(w)]) throw Absent{v_.model->bound.graph.weights[static_cast<size_t>(w)].name};
      weights.push_back(&v_.model->bound.weights[static_cast<size_t>(w)]);
      if (!LoadedAs() || node.op == &LinearOp() || node.op == &EmbeddingOp()) continue;
      rounded.push_back(Rounded(*weights.back(), *LoadedAs()));
      weights.back() = &rounded.back();
    }
    if (node.op == &ActivationOp()) {  // 1 + tanh near -1 and its like: an error relative to x, not to the result
      double squares = 0;
      for (const double x : inputs[0]) squares += x * x;
      const double unit = 0.2 * UnitOf(node) + (node.As<ActivationAttributes>().kind == "gelu" ? kErfError / 2 : 0);
      slack_ = unit * std::sqrt(squares / static_cast<double>(std::max<size_t>(inputs[0].size(), 1)));
    }
    std::vector<std::vector<double>> outputs = Call(node, inputs, weights);
    if (LoadedAs() && node.op == &EmbeddingOp()) {  // the rows that are read, not the whole table; f32 takes off what dividing put on
      const double scale = node.As<EmbeddingAttributes>().scale;
      for (double& v : outputs[0]) v = RoundTo(*LoadedAs(), static_cast<float>(v / scale)) * scale;
    }
    for (const NodeRule& rule : v_.rules) {
      if (rule({node, graph_, inputs, RowsOf(graph_.values[static_cast<size_t>(node.outputs[0])])}, outputs[0])) break;
    }
    size_t wanted = 0;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == id) wanted = i;
    }
    if (!memo.empty()) e_.products_[memo] = outputs[wanted];
    return std::move(outputs[wanted]);
  }

  // The type that weights are rounded to when they are loaded.
  const std::optional<FloatType>& LoadedAs() const { return v_.narrow.weights ? v_.narrow.weights : e_.formats_.weight_rounding; }

  // What identifies a product of recorded values and a weight; empty: not worth keeping.
  std::string ProductKey(const Node& node) {
    const bool narrow = v_.narrow.inputs || v_.narrow.weights || v_.narrow.int8_block != 0;
    if (seed_ != 0 || narrow || node.op != &LinearOp() || !v_.rules.empty() || !IsRecorded(node.inputs[0])) return {};
    const WeightRef& weight = v_.model->bound.weights[static_cast<size_t>(node.weights[0])];
    return fmt::format("{} {} {} {} {}", node.name, limit_, static_cast<const void*>(weight.view.bytes.data()),
                       static_cast<const void*>(weight.row_order.get()), weight.add);
  }

  std::vector<std::vector<double>> Call(const Node& node, const std::vector<std::vector<double>>& inputs,
                                        const std::vector<const WeightRef*>& weights) {
    const int64_t tokens = e_.tokens();
    const int64_t shift = node.op == &RopeTableOp() ? v_.rope_shift : v_.embedding_shift;
    std::vector<int32_t> positions(static_cast<size_t>(tokens));
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(shift));
    std::vector<int64_t> rows(static_cast<size_t>(rows_));
    std::iota(rows.begin(), rows.end(), tokens - rows_);
    const SequenceSpan span{0, 0, tokens, node.op == &RopeTableOp() ? shift : 0, tokens};
    const Batch batch{e_.ids_, positions, {&span, 1}, rows};
    std::vector<std::span<const double>> views(inputs.begin(), inputs.end());
    std::vector<std::vector<double>> outputs(node.outputs.size());
    std::vector<std::span<double>> spans;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const Value& value = graph_.values[static_cast<size_t>(node.outputs[i])];
      outputs[i].resize(static_cast<size_t>(RowsOf(value) * value.width));
      spans.push_back(outputs[i]);
    }
    if (node.op == &LinearOp()) {
      Product({*weights[0], LoadedAs(), inputs[0]}, e_.pool_, spans[0]);
      return outputs;
    }
    node.op->Reference({.node = node, .graph = graph_, .batch = batch, .inputs = views, .outputs = spans, .weights = weights,
                        .caches = {}, .pool = e_.pool_});
    return outputs;
  }

  std::vector<double> Attention(const Node& node, ValueId id, double error) {
    const auto& a = node.As<AttentionAttributes>();
    const int64_t tokens = e_.tokens();
    if (id == node.outputs[1]) {
      if (a.softcap != 0) roundings_ = std::max(roundings_, 4);
      else roundings_ = std::max(roundings_, 2);
      const std::vector<double> q = Input(node, 0, error);
      const bool replaced = v_.attention.keys != nullptr && v_.attention.replaced_layer == node.layer;
      const std::vector<double> k = replaced ? *v_.attention.keys : Input(node, 1, error);
      return AttentionScores(a, v_.attention, q, k, tokens, e_.pool_);
    }
    if (id == node.outputs[2]) {
      std::vector<double> sinks;
      if (!node.weights.empty()) {
        if (!v_.model->present[static_cast<size_t>(node.weights[0])]) throw Absent{"sinks"};
        sinks = ReadWeightF64(v_.model->bound.weights[static_cast<size_t>(node.weights[0])]);
        if (LoadedAs()) RoundAll(sinks, *LoadedAs());
      }
      std::vector<double> scores = Get(node.outputs[1]);
      if (seed_ != 0) noise_.Move(scores, error);
      return AttentionSoftmax(a, v_.attention, scores, sinks, tokens, e_.pool_);
    }
    std::vector<double> p = Get(node.outputs[2]);
    if (seed_ != 0) noise_.Move(p, error);
    const bool replaced = v_.attention.values != nullptr && v_.attention.replaced_layer == node.layer;
    return AttentionOutput(a, v_.attention, p, replaced ? *v_.attention.values : Input(node, 2, error), tokens, e_.pool_);
  }

  // Weights for the experts that the run chose, where it recorded them.
  std::vector<double> Route(const Node& node, ValueId id, double error) {
    const std::string path = fmt::format("layer-{}/moe_router_indices", node.layer);
    const auto& a = node.As<MoeRouteAttributes>();
    if (id != node.outputs[0] || !e_.run_.Has(path)) return Plain(node, id, error);
    const RecordedStage* indices = e_.run_.Find(path);
    if (static_cast<int64_t>(indices->values.size()) != e_.tokens() * a.top_k) return Plain(node, id, error);
    for (const double i : indices->values) {
      if (!(i >= 0 && i < static_cast<double>(a.experts))) return Plain(node, id, error);
    }
    std::vector<double> out = RouteWeights(a, Input(node, 0, error), indices->values, e_.tokens());
    const std::vector<std::vector<double>> inputs = {Get(node.inputs[0])};
    for (const NodeRule& rule : v_.rules) {
      if (rule({node, graph_, inputs, e_.tokens()}, out)) break;
    }
    return out;
  }

  void MoveAngles(const Node& node, std::vector<double>& table) {
    const auto& a = node.As<RopeTableAttributes>();
    const std::vector<double> frequency = InverseFrequencies(a, e_.tokens());
    const size_t half = frequency.size();
    for (int64_t t = 0; t < e_.tokens(); ++t) {
      double* row = table.data() + t * a.rotary_dim;
      for (size_t i = 0; i < half; ++i) {
        const double moved = (kAngleUnits + kPairUnits * static_cast<double>(i)) * kAngleUnit * noise_.Next() * static_cast<double>(std::abs(t + v_.rope_shift)) * frequency[i];
        const double cosine = row[i], sine = row[half + i];
        row[i] = cosine - moved * sine;
        row[half + i] = sine + moved * cosine;
      }
    }
  }

  Evaluator& e_;
  const Variation& v_;
  const Graph& graph_;
  int limit_;
  uint64_t seed_;
  EvaluationNoise noise_;
  int64_t rows_ = 0;
  int roundings_ = 1;
  double input_error_ = 0;
  double slack_ = 0;
  double unit_ = 0;
  bool elementwise_ = false;  // whether the target multiplies element by element
  std::map<ValueId, std::vector<double>> made_;
};

Evaluator::Evaluator(RecordedRun& run, std::vector<int32_t> ids, RunFormats formats, ThreadPool& pool)
    : run_(run), ids_(std::move(ids)), formats_(std::move(formats)), pool_(pool) {}

std::optional<Evaluated> Evaluator::Evaluate(const Variation& variation, int index, uint64_t seed) {
  const Graph& graph = variation.model->bound.graph;
  const Stage& stage = graph.stages[static_cast<size_t>(index)];
  Evaluation evaluation(*this, variation, index, seed);
  Evaluated out;
  try {
    const Value& first = graph.values[static_cast<size_t>(stage.parts[0])];
    if (first.kind == ValueKind::kScores) {
      out.values = evaluation.Target(stage.parts[0]);
      out.rows = first.width * tokens();
      out.width = tokens();
    } else {
      out.rows = evaluation.RowsOf(first);
      for (const ValueId part : stage.parts) out.width += graph.values[static_cast<size_t>(part)].width;
      out.values.resize(static_cast<size_t>(out.rows * out.width));
      int64_t column = 0;
      for (const ValueId part : stage.parts) {
        const int64_t w = graph.values[static_cast<size_t>(part)].width;
        const std::vector<double>& values = evaluation.Target(part);
        for (int64_t r = 0; r < out.rows; ++r) std::copy_n(values.begin() + r * w, w, out.values.begin() + r * out.width + column);
        column += w;
      }
    }
  } catch (const Absent& absent) {
    missing_ = absent.what;
    return std::nullopt;
  }
  out.roundings = evaluation.roundings();
  out.input_error = evaluation.input_error();
  out.slack = evaluation.slack();
  out.unit = evaluation.unit();
  return out;
}

std::optional<std::vector<double>> Evaluator::Spread(const Variation& variation, int index) {
  const Graph& graph = variation.model->bound.graph;
  const Stage& stage = graph.stages[static_cast<size_t>(index)];
  Evaluation evaluation(*this, variation, index, 0);
  int64_t width = 0, column = 0;
  for (const ValueId part : stage.parts) width += graph.values[static_cast<size_t>(part)].width;
  std::vector<double> out;
  for (const ValueId part : stage.parts) {
    const Value& value = graph.values[static_cast<size_t>(part)];
    const auto spread = value.kind == ValueKind::kScores ? std::nullopt : evaluation.SpreadOf(part);
    if (!spread) return std::nullopt;
    const auto rows = static_cast<int64_t>(spread->size()) / value.width;
    out.resize(static_cast<size_t>(rows * width));
    for (int64_t r = 0; r < rows; ++r) std::copy_n(spread->begin() + r * value.width, value.width, out.begin() + r * width + column);
    column += value.width;
  }
  return out;
}

std::vector<int> Evaluator::Cone(const Variation& variation, int index) {
  const Graph& graph = variation.model->bound.graph;
  Evaluation evaluation(*this, variation, index, 0);
  std::set<int> nodes;
  std::vector<ValueId> open = graph.stages[static_cast<size_t>(index)].parts;
  while (!open.empty()) {
    const ValueId id = open.back();
    open.pop_back();
    const int producer = graph.values[static_cast<size_t>(id)].producer;
    if (producer < 0 || evaluation.IsRecorded(id)) continue;
    const Node& node = graph.nodes[static_cast<size_t>(producer)];
    nodes.insert(producer);
    if (node.op != &AttentionOp()) {
      open.insert(open.end(), node.inputs.begin(), node.inputs.end());
      continue;
    }
    // Its steps one by one: scores of q and k, softmax of scores, result of softmax and v.
    if (id == node.outputs[1]) open.insert(open.end(), {node.inputs[0], node.inputs[1]});
    if (id == node.outputs[2]) open.push_back(node.outputs[1]);
    if (id == node.outputs[0]) open.insert(open.end(), {node.outputs[2], node.inputs[2]});
  }
  return {nodes.begin(), nodes.end()};
}

std::optional<std::vector<double>> Evaluator::ValueBefore(const Variation& variation, ValueId value, int limit) {
  Evaluation evaluation(*this, variation, limit, 0);
  try {
    return evaluation.Get(value);
  } catch (const Absent& absent) {
    missing_ = absent.what;
    return std::nullopt;
  }
}

}  // namespace apr::bisect
