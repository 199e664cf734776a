// attention: softmax(scale * q k^T [soft-capped] [+ sinks]) v over the sequence so far, with grouped
// query heads, causal, optionally windowed (Vaswani et al. 2017, eq. 1; Ainslie et al. 2023).
// The node keeps keys and values of earlier tokens in its cache slot.
#pragma once

#include "graph/op.h"

namespace apr {

struct AttentionAttributes {
  int64_t heads = 0;
  int64_t kv_heads = 0;     // query head h reads kv head h / (heads / kv_heads)
  int64_t k_dim = 0;        // per head, of q and k
  int64_t v_dim = 0;        // per head, of v and the output
  double scale = 0;         // multiplies q k^T
  double softcap = 0;       // s -> cap * tanh(s / cap) after the scale; 0: none
  int64_t window = 0;       // key position > query position - window; 0: the whole sequence
  int64_t cache_slot = 0;
  void Fields(FieldVisitor& v) {
    v.Int("heads", heads);
    v.Int("kv_heads", kv_heads);
    v.Int("k_dim", k_dim);
    v.Int("v_dim", v_dim);
    v.Real("scale", scale);
    v.Real("softcap", softcap);
    v.Int("window", window);
    v.Int("cache_slot", cache_slot);
  }
};

// Inputs: q [T, heads * k_dim], k [T, kv_heads * k_dim], v [T, kv_heads * v_dim].
// Weights: none, or sinks [heads] (gpt-oss: one logit per head that takes part in the softmax and
// has no value).
// Outputs: 0 the result [T, heads * v_dim]; 1 "scores" [heads, T, S], scaled and soft-capped, before the
// mask; 2 "softmax" [heads, T, S]. 1 and 2 are computed only where wanted.
const Op& AttentionOp();

}  // namespace apr
