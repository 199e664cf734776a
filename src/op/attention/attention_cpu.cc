// See attention_cpu.h. Scalar f32 code; every query row is computed by itself, over keys in
// ascending order, so batch, chunk and thread count change nothing.
#include "op/attention/attention_cpu.h"

#include <cmath>
#include <vector>

namespace apr {
namespace {

struct State final : CpuState {
  std::vector<float> sinks;
};

float Dot(const float* a, const float* b, int64_t n) {
  constexpr int kLanes = 8;
  float lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += a[i + j] * b[i + j];
  }
  for (int j = 0; i + j < n; ++j) lane[j] += a[i + j] * b[i + j];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

struct QueryRow {
  int64_t head;
  int64_t position;
  int64_t keys;
  const float* q;
  const float* sink;  // null: none
  float* scores;      // null: not tapped
  float* softmax;     // null: not tapped
  float* out;
};

void Attend(const AttentionAttributes& a, const KvCache<float>& cache, const QueryRow& row,
            std::vector<float>& weight) {
  const int64_t kv = row.head / (a.heads / a.kv_heads);
  const auto scale = static_cast<float>(a.scale);
  const auto cap = static_cast<float>(a.softcap);
  const auto score = [&](int64_t s) {
    const float raw = scale * Dot(row.q, cache.key(kv, s), a.k_dim);
    return cap == 0 ? raw : cap * std::tanh(raw / cap);
  };
  if (row.scores != nullptr) {
    for (int64_t s = 0; s < row.keys; ++s) row.scores[s] = score(s);
  }
  const int64_t begin = a.window > 0 ? std::max<int64_t>(0, row.position - a.window + 1) : 0;
  weight.resize(static_cast<size_t>(row.position - begin + 1));
  float largest = row.sink != nullptr ? *row.sink : -INFINITY;
  for (int64_t s = begin; s <= row.position; ++s) {
    float& w = weight[static_cast<size_t>(s - begin)];
    w = score(s);
    // Not std::max: a NaN score must stay visible.
    if (!(w <= largest)) largest = w;
  }
  double sum = row.sink != nullptr ? std::exp(static_cast<double>(*row.sink - largest)) : 0;
  for (float& w : weight) sum += w = std::exp(w - largest);
  const auto inverse = static_cast<float>(1 / sum);
  std::fill_n(row.out, a.v_dim, 0.0f);
  if (row.softmax != nullptr) std::fill_n(row.softmax, row.keys, 0.0f);
  for (int64_t s = begin; s <= row.position; ++s) {
    const float p = weight[static_cast<size_t>(s - begin)] * inverse;
    if (row.softmax != nullptr) row.softmax[s] = p;
    const float* v = cache.value(kv, s);
    for (int64_t i = 0; i < a.v_dim; ++i) row.out[i] += p * v[i];
  }
}

}  // namespace

std::unique_ptr<CpuState> PrepareAttentionCpu(const CpuPrepareContext& context) {
  auto state = std::make_unique<State>();
  if (!context.weights.empty()) state->sinks = ReadWeightF32(*context.weights[0]);
  return state;
}

void AttentionCpu(const OpContext<float>& context) {
  const auto& a = context.node.As<AttentionAttributes>();
  const std::vector<float>& sinks = static_cast<const State*>(context.state)->sinks;
  AppendToCaches(a, context);
  int64_t scores_at = 0;
  for (size_t i = 0; i < context.batch.sequences.size(); ++i) {
    const SequenceSpan& span = context.batch.sequences[i];
    const int64_t keys = span.position + span.count;
    context.pool.ParallelFor(a.heads * span.count, 4, [&](int64_t begin, int64_t end, int) {
      std::vector<float> weight;
      for (int64_t item = begin; item < end; ++item) {
        const int64_t head = item / span.count;
        const int64_t t = item % span.count;
        const auto tapped = [&](size_t output) {
          float* base = context.outputs[output].data();
          return base == nullptr ? nullptr : base + scores_at + item * keys;
        };
        const int64_t row = (span.first + t) * a.heads + head;
        Attend(a, context.caches[i],
               {.head = head,
                .position = span.position + t,
                .keys = keys,
                .q = context.inputs[0].data() + row * a.k_dim,
                .sink = sinks.empty() ? nullptr : &sinks[static_cast<size_t>(head)],
                .scores = tapped(1),
                .softmax = tapped(2),
                .out = context.outputs[0].data() + row * a.v_dim},
               weight);
      }
    });
    scores_at += a.heads * span.count * keys;
  }
}

}  // namespace apr
