// embedding: y[t] = scale * W[id[t]]; W is [V, C]. With positions: y[t] = W[position[t] + offset]
// (learned positions, GPT-2).
#pragma once

#include "graph/op.h"

namespace apr {

struct EmbeddingAttributes {
  double scale = 1;
  bool by_position = false;
  int64_t offset = 0;  // added to the position; 0 with by_position = false
  void Fields(FieldVisitor& v) {
    v.Real("scale", scale);
    v.Bool("by_position", by_position);
    v.Int("offset", offset);
  }
};

// Inputs: token ids. Weights: W [V, C]. Output [T, C].
const Op& EmbeddingOp();

}  // namespace apr
