// Element-wise ops without parameters of their own:
//   add:     y = a + scale * b          (residual; scale: Granite's residual multiplier)
//   mul:     y = a * b
//   scale:   y = factor * x
//   clamped_swiglu: y = (clamp(u, -limit, limit) + 1) * g * sigmoid(alpha * g), g = min(gate, limit)
//            (gpt-oss; transformers models/gpt_oss/modeling_gpt_oss.py)
//   sigmoid_gate: y = x * sigmoid(g), one g per row (Qwen2-MoE's shared expert)
//   clamp: y = min(max(x, -limit), limit)
//   softcap: y = cap * tanh(x / cap)    (Gemma 2, arXiv 2408.00118, section 2)
#pragma once

#include "graph/op.h"

namespace apr {

struct AddAttributes {
  double scale = 1;
  void Fields(FieldVisitor& v) { v.Real("scale", scale); }
};
struct MulAttributes {
  void Fields(FieldVisitor&) {}
};
struct ScaleAttributes {
  double factor = 1;
  void Fields(FieldVisitor& v) { v.Real("factor", factor); }
};
struct SoftcapAttributes {
  double cap = 0;
  void Fields(FieldVisitor& v) { v.Real("cap", cap); }
};

struct ClampedSwigluAttributes {
  double limit = 0;
  double alpha = 0;
  void Fields(FieldVisitor& v) {
    v.Real("limit", limit);
    v.Real("alpha", alpha);
  }
};
struct ClampAttributes {
  double limit = 0;
  void Fields(FieldVisitor& v) { v.Real("limit", limit); }
};
const Op& ClampOp();  // input x

struct SigmoidGateAttributes {
  void Fields(FieldVisitor&) {}
};

const Op& ClampedSwigluOp();  // inputs gate, up of equal width
const Op& SigmoidGateOp();    // inputs x, g (width 1)
const Op& AddOp();      // inputs a, b of equal width
const Op& MulOp();      // inputs a, b of equal width
const Op& ScaleOp();    // input x
const Op& SoftcapOp();  // input x

}  // namespace apr
