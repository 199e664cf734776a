// Element-wise ops without parameters of their own:
//   add:     y = a + scale * b          (residual; scale: Granite's residual multiplier)
//   mul:     y = a * b
//   scale:   y = factor * x
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

const Op& AddOp();      // inputs a, b of equal width
const Op& MulOp();      // inputs a, b of equal width
const Op& ScaleOp();    // input x
const Op& SoftcapOp();  // input x

}  // namespace apr
