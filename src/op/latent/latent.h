// The data movement of latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): cutting a
// compressed vector apart and joining each head's own key part with the rotated part all heads share.
#pragma once

#include "graph/op.h"

namespace apr {

struct SliceAttributes {
  int64_t first = 0;
  int64_t width = 0;
  void Fields(FieldVisitor& v) {
    v.Int("first", first);
    v.Int("width", width);
  }
};
// slice: columns [first, first + width) of x.
const Op& SliceOp();

struct LatentKvAttributes {
  int64_t heads = 0;
  int64_t nope_dim = 0;
  int64_t rope_dim = 0;
  int64_t v_dim = 0;
  void Fields(FieldVisitor& v) {
    v.Int("heads", heads);
    v.Int("nope_dim", nope_dim);
    v.Int("rope_dim", rope_dim);
    v.Int("v_dim", v_dim);
  }
};
// latent_kv: inputs kv [T, heads * (nope_dim + v_dim)], rotated [T, rope_dim]. Outputs: 0 keys
// [T, heads * (nope_dim + rope_dim)]; 1 "values" [T, heads * v_dim].
const Op& LatentKvOp();

}  // namespace apr
