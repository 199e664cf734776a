// Small kernels over rows of f32 values, one table per instruction set: activations, softmax, norms. The
// same code serves whole vectors and the last part of a row, so a result depends on its inputs and, for sums,
// on its place in the row, never on what stands around it.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"

namespace apr {

// Scores of one query: keys [begin, end) are visible. `scores` points at key 0's place and may be read and
// written in whole vectors: from begin rounded down to end rounded up to kScoreAlign.
inline constexpr int64_t kScoreAlign = 16;
struct SoftmaxArgs {
  float* scores;
  int64_t begin;
  int64_t end;
  const float* sink;  // null: none. A further logit that takes part in the sum and has no value.
};

struct NormArgs {
  const float* x;
  int64_t width;
  bool layer_norm;
  double eps;
  const float* scale;  // [width] or null
  const float* shift;  // [width] or null
  float* y;
};

struct VectorKernels {
  Isa isa;
  // y[i] = f(x[i]), computed in f64 and rounded once.
  void (*silu)(const float* x, int64_t count, float* y);
  void (*gelu_tanh)(const float* x, int64_t count, float* y);
  void (*softcap)(const float* x, int64_t count, double cap, float* y);  // cap * tanh(x / cap)
  // scores[i] = cap * tanh(scale * scores[i] / cap), the product rounded to f32; cap 0: scale alone. In place.
  void (*scale_scores)(float* scores, int64_t count, float scale, float cap);
  // Replaces the visible scores by exp(score - largest) and the others of the touched vectors by 0; returns
  // the sum, with exp(sink - largest).
  float (*softmax)(const SoftmaxArgs& args);
  // norm.h's formula, sums in f64.
  void (*norm)(const NormArgs& args);
};

const VectorKernels& VectorKernelsFor(Isa isa);

const VectorKernels& VectorKernelsScalar();
const VectorKernels& VectorKernelsAvx2();
const VectorKernels& VectorKernelsAvx512();

}  // namespace apr
