// linear: y[t, n] = sum_k x[t, k] * W[n, k]; W is [N, K]. No bias: that is add_bias.
#pragma once

#include "graph/op.h"

namespace apr {

struct LinearAttributes {
  void Fields(FieldVisitor&) {}
};

// Inputs: x [rows, K]. Weights: W [N, K]. Output [rows, N], same kind as x.
const Op& LinearOp();

}  // namespace apr
