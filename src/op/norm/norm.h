// rms_norm and layer_norm over groups of the width.
//   rms_norm:   y = x / sqrt(mean(x^2) + eps) * (w + offset)          (Zhang & Sennrich 2019, eq. 4)
//   layer_norm: y = (x - mean(x)) / sqrt(var(x) + eps) * (w + offset) + b, biased variance
//               (Ba et al. 2016, eq. 4)
#pragma once

#include "graph/op.h"

namespace apr {

struct NormAttributes {
  bool layer_norm = false;       // false: rms_norm
  double eps = 0;
  double offset = 0;             // Gemma: 1 (transformers models/gemma/modeling_gemma.py)
  int64_t groups = 1;            // q/k norms: one group per head
  bool weight_per_group = false; // the weight is [groups * W] (Cohere), else [W] shared by all
  void Fields(FieldVisitor& v) {
    v.Bool("layer_norm", layer_norm);
    v.Real("eps", eps);
    v.Real("offset", offset);
    v.Int("groups", groups);
    v.Bool("weight_per_group", weight_per_group);
  }
};

// Inputs: x [rows, groups * W]. Weights: w, and b for a layer_norm with bias (same shape as w); none
// at all for a norm without parameters. Output like x.
const Op& NormOp();

}  // namespace apr
