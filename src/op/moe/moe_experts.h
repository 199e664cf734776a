// moe_experts: y[t] = sum over the chosen experts e of weight[t, e] * expert_e(x[t]), where an expert is a
// gated feed-forward block. Its steps are the ops of dense blocks, so they share kernels and formulas.
#pragma once

#include "graph/op.h"

namespace apr {

struct MoeExpertsAttributes {
  int64_t experts = 0;
  int64_t ffn = 0;
  std::string activation;   // as ActivationAttributes::kind
  bool bias = false;        // every projection has one
  double swiglu_limit = 0;  // > 0: the clamped gate of gpt-oss (elementwise.h) instead of `activation`
  double swiglu_alpha = 0;
  void Fields(FieldVisitor& v) {
    v.Int("experts", experts);
    v.Int("ffn", ffn);
    v.Text("activation", activation);
    v.Bool("bias", bias);
    v.Real("swiglu_limit", swiglu_limit);
    v.Real("swiglu_alpha", swiglu_alpha);
  }
};

// Inputs: x [T, C], weights [T, k], indices [T, k]. Weights, per expert in order: gate [F, C],
// (bias [F],) up [F, C], (bias [F],) down [C, F](, bias [C]). Output [T, C].
const Op& MoeExpertsOp();

}  // namespace apr
