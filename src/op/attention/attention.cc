// See attention.h. The f64 definition and the shape rule; the CPU kernel is in attention_cpu.cc.
#include "op/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "op/attention/attention_cpu.h"
#include "op/context.h"
#include "op/infer.h"

namespace apr {
namespace {

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// One query head of one token. `scores` and `softmax`: rows of the tapped matrices, or null.
void Attend(const AttentionAttributes& a, const KvCache<double>& cache, int64_t head, int64_t position,
            int64_t keys, const double* q, const double* sink, double* scores, double* softmax, double* out) {
  const int64_t kv = head / (a.heads / a.kv_heads);
  std::vector<double> row(static_cast<size_t>(cache.is_packed() ? std::max(a.k_dim, a.v_dim) : 0));
  const auto key = [&](int64_t s) -> const double* {
    if (!cache.is_packed()) return cache.key(kv, s);
    ReadPackedKeys(cache, kv, s, 1, 0, row.data());
    return row.data();
  };
  const auto value = [&](int64_t s) -> const double* {
    if (!cache.is_packed()) return cache.value(kv, s);
    ReadPackedValues(cache, kv, s, 1, 0, row.data());
    return row.data();
  };
  const auto score = [&](int64_t s) {
    const double raw = a.scale * Dot(q, key(s), a.k_dim);
    return a.softcap == 0 ? raw : a.softcap * std::tanh(raw / a.softcap);
  };
  if (scores != nullptr) {
    for (int64_t s = 0; s < keys; ++s) scores[s] = score(s);
  }
  const int64_t begin = a.window > 0 ? std::max<int64_t>(0, position - a.window + 1) : 0;
  std::vector<double> weight(static_cast<size_t>(position - begin + 1));
  double largest = sink != nullptr ? *sink : -INFINITY;
  for (int64_t s = begin; s <= position; ++s) {
    weight[static_cast<size_t>(s - begin)] = score(s);
    // Not std::max: a NaN score must stay visible.
    if (!(weight[static_cast<size_t>(s - begin)] <= largest)) largest = weight[static_cast<size_t>(s - begin)];
  }
  double sum = sink != nullptr ? std::exp(*sink - largest) : 0;
  for (double& w : weight) sum += w = std::exp(w - largest);
  std::fill_n(out, a.v_dim, 0.0);
  if (softmax != nullptr) std::fill_n(softmax, keys, 0.0);
  for (int64_t s = begin; s <= position; ++s) {
    const double p = weight[static_cast<size_t>(s - begin)] / sum;
    if (softmax != nullptr) softmax[s] = p;
    const double* v = value(s);
    for (int64_t i = 0; i < a.v_dim; ++i) out[i] += p * v[i];
  }
}

class Attention final : public Op {
 public:
  const char* name() const override { return "attention"; }

  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const auto& a = node.As<AttentionAttributes>();
    if (a.kv_heads < 1 || a.heads % a.kv_heads != 0) ShapeError(node, "heads is no multiple of kv_heads");
    if (InputOf(node, graph, 0).width != a.heads * a.k_dim) ShapeError(node, "q has the wrong width");
    if (InputOf(node, graph, 1).width != a.kv_heads * a.k_dim) ShapeError(node, "k has the wrong width");
    if (InputOf(node, graph, 2).width != a.kv_heads * a.v_dim) ShapeError(node, "v has the wrong width");
    if (!node.weights.empty()) RequireWeight(node, graph, 0, Shape{a.heads});
    return {{.kind = ValueKind::kTokens, .width = a.heads * a.v_dim},
            {.kind = ValueKind::kScores, .width = a.heads, .name = "scores"},
            {.kind = ValueKind::kScores, .width = a.heads, .name = "softmax"}};
  }

  void Reference(const OpContext<double>& context) const override {
    const auto& a = context.node.As<AttentionAttributes>();
    AppendToCaches(a, context);
    std::vector<double> sinks;
    if (!context.weights.empty()) sinks = ReadWeightF64(*context.weights[0]);
    int64_t scores_at = 0;  // first element of this sequence's block in the tapped matrices
    for (size_t i = 0; i < context.batch.sequences.size(); ++i) {
      const SequenceSpan& span = context.batch.sequences[i];
      const int64_t keys = span.position + span.count;
      context.pool.ParallelFor(a.heads * span.count, 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t item = begin; item < end; ++item) {
          const int64_t head = item / span.count;
          const int64_t t = item % span.count;
          const auto tapped = [&](size_t output) {
            double* base = context.outputs[output].data();
            return base == nullptr ? nullptr : base + scores_at + item * keys;
          };
          const int64_t row = span.first + t;
          Attend(a, context.caches[i], head, span.position + t, keys,
                 context.inputs[0].data() + (row * a.heads + head) * a.k_dim,
                 sinks.empty() ? nullptr : &sinks[static_cast<size_t>(head)], tapped(1), tapped(2),
                 context.outputs[0].data() + (row * a.heads + head) * a.v_dim);
        }
      });
      scores_at += a.heads * span.count * keys;
    }
  }

  std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext& context) const override {
    return PrepareAttentionCpu(context);
  }
  void Cpu(const OpContext<float>& context) const override { AttentionCpu(context); }
};

}  // namespace

const Op& AttentionOp() {
  static const Attention kOp;
  return kOp;
}

}  // namespace apr
