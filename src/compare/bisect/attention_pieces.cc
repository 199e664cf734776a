// See attention_pieces.h.
#include "compare/bisect/attention_pieces.h"

#include <algorithm>
#include <cmath>

namespace apr::bisect {
namespace {

int64_t KvHead(const AttentionAttributes& a, const AttentionTwist& twist, int64_t head) {
  if (twist.interleaved_kv) return head % a.kv_heads;
  return (head / (a.heads / a.kv_heads) + twist.kv_rotation) % a.kv_heads;
}

}  // namespace

KeyRange VisibleKeys(const AttentionAttributes& a, const AttentionTwist& twist, int64_t position, int64_t tokens) {
  KeyRange out;
  out.first = a.window > 0 ? std::max<int64_t>(0, position - a.window + 1) : 0;
  out.last = twist.no_mask ? tokens - 1 : std::clamp<int64_t>(position + twist.mask_shift.value_or(0), 0, tokens - 1);
  return out;
}

std::vector<double> AttentionScores(const AttentionAttributes& a, const AttentionTwist& twist, const std::vector<double>& q,
                                    const std::vector<double>& k, int64_t tokens, ThreadPool& pool) {
  std::vector<double> out(static_cast<size_t>(a.heads * tokens * tokens));
  pool.ParallelFor(a.heads * tokens, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / tokens, t = item % tokens;
      const double* x = q.data() + (t * a.heads + head) * a.k_dim;
      for (int64_t s = 0; s < tokens; ++s) {
        const double* y = k.data() + (s * a.kv_heads + KvHead(a, twist, head)) * a.k_dim;
        double sum = 0;
        for (int64_t i = 0; i < a.k_dim; ++i) sum += x[i] * y[i];
        sum *= a.scale;
        out[static_cast<size_t>(item * tokens + s)] = a.softcap == 0 ? sum : a.softcap * std::tanh(sum / a.softcap);
      }
    }
  });
  return out;
}

std::vector<double> AttentionSoftmax(const AttentionAttributes& a, const AttentionTwist& twist, const std::vector<double>& scores,
                                     const std::vector<double>& sinks, int64_t tokens, ThreadPool& pool) {
  std::vector<double> out(scores.size());
  pool.ParallelFor(a.heads * tokens, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const KeyRange keys = VisibleKeys(a, twist, item % tokens, tokens);
      const double* x = scores.data() + item * tokens;
      double* y = out.data() + item * tokens;
      double largest = sinks.empty() ? -INFINITY : sinks[static_cast<size_t>(item / tokens)];
      for (int64_t s = keys.first; s <= keys.last; ++s) {
        if (!(x[s] <= largest)) largest = x[s];  // a NaN stays visible
      }
      double sum = sinks.empty() ? 0 : std::exp(sinks[static_cast<size_t>(item / tokens)] - largest);
      for (int64_t s = keys.first; s <= keys.last; ++s) sum += y[s] = std::exp(x[s] - largest);
      for (int64_t s = keys.first; s <= keys.last; ++s) y[s] /= sum;
    }
  });
  return out;
}

std::vector<double> AttentionOutput(const AttentionAttributes& a, const AttentionTwist& twist, const std::vector<double>& p,
                                    const std::vector<double>& v, int64_t tokens, ThreadPool& pool) {
  std::vector<double> out(static_cast<size_t>(tokens * a.heads * a.v_dim));
  pool.ParallelFor(a.heads * tokens, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / tokens, t = item % tokens;
      double* y = out.data() + (t * a.heads + head) * a.v_dim;
      for (int64_t s = 0; s < tokens; ++s) {
        const double weight = p[static_cast<size_t>(item * tokens + s)];
        if (weight == 0) continue;
        const double* x = v.data() + (s * a.kv_heads + KvHead(a, twist, head)) * a.v_dim;
        for (int64_t i = 0; i < a.v_dim; ++i) y[i] += weight * x[i];
      }
    }
  });
  return out;
}

std::vector<double> RouteWeights(const MoeRouteAttributes& a, const std::vector<double>& logits, const std::vector<double>& indices,
                                 int64_t tokens) {
  std::vector<double> out(static_cast<size_t>(tokens * a.top_k));
  for (int64_t t = 0; t < tokens; ++t) {
    const double* x = logits.data() + t * a.experts;
    const double* chosen = indices.data() + t * a.top_k;
    double* y = out.data() + t * a.top_k;
    double largest = -INFINITY, all = 0, sum = 0;
    for (int64_t e = 0; e < a.experts; ++e) largest = std::max(largest, x[e]);
    for (int64_t e = 0; e < a.experts; ++e) all += std::exp(x[e] - largest);
    double among = 0;
    for (int64_t i = 0; i < a.top_k; ++i) among += std::exp(x[static_cast<int64_t>(chosen[i])] - largest);
    for (int64_t i = 0; i < a.top_k; ++i) {
      const double logit = x[static_cast<int64_t>(chosen[i])];
      if (a.scoring == "sigmoid") y[i] = 1 / (1 + std::exp(-logit));
      else if (a.scoring == "softmax") y[i] = std::exp(logit - largest) / all;
      else y[i] = std::exp(logit - largest) / among;
      sum += y[i];
    }
    for (int64_t i = 0; i < a.top_k; ++i) y[i] = (a.normalize ? y[i] / (sum + (a.scoring == "sigmoid" ? 1e-20 : 0)) : y[i]) * a.scaling;
  }
  return out;
}

}  // namespace apr::bisect
