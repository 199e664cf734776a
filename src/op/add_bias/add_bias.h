// add_bias: y[t, n] = x[t, n] + b[n].
#pragma once

#include "graph/op.h"

namespace apr {

struct AddBiasAttributes {
  void Fields(FieldVisitor&) {}
};

// Inputs: x [rows, N]. Weights: b [N]. Output like x.
const Op& AddBiasOp();

}  // namespace apr
