// The table of vector_kernels.h in portable C++: the definition.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "op/activation/activation.h"
#include "op/vector_kernels.h"

namespace apr {
namespace {

void Apply(double (*f)(double), const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(f(x[i]));
}
void Silu(const float* x, int64_t count, float* y) { Apply(ActivationFunction("silu"), x, count, y); }
void GeluTanh(const float* x, int64_t count, float* y) { Apply(ActivationFunction("gelu_tanh"), x, count, y); }
void Softcap(const float* x, int64_t count, double cap, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(cap * std::tanh(x[i] / cap));
}

void ScaleScores(float* scores, int64_t count, float scale, float cap) {
  for (int64_t i = 0; i < count; ++i) scores[i] *= scale;
  if (cap != 0) Softcap(scores, count, cap, scores);
}

float Softmax(const SoftmaxArgs& a) {
  float largest = a.sink != nullptr ? *a.sink : -std::numeric_limits<float>::infinity();
  for (int64_t s = a.begin; s < a.end; ++s) largest = a.scores[s] > largest ? a.scores[s] : largest;
  double sum = a.sink != nullptr ? std::exp(static_cast<double>(*a.sink - largest)) : 0.0;
  const int64_t first = a.begin / kScoreAlign * kScoreAlign;
  const int64_t last = (a.end + kScoreAlign - 1) / kScoreAlign * kScoreAlign;
  std::fill(a.scores + first, a.scores + a.begin, 0.0f);
  for (int64_t s = a.begin; s < a.end; ++s) sum += a.scores[s] = std::exp(a.scores[s] - largest);
  std::fill(a.scores + a.end, a.scores + last, 0.0f);
  return static_cast<float>(sum);
}

void Norm(const NormArgs& a) {
  const auto width = static_cast<double>(a.width);
  double mean = 0;
  if (a.layer_norm) {
    for (int64_t i = 0; i < a.width; ++i) mean += a.x[i];
    mean /= width;
  }
  double squares = 0;
  for (int64_t i = 0; i < a.width; ++i) squares += (a.x[i] - mean) * (a.x[i] - mean);
  const double inverse = 1 / std::sqrt(squares / width + a.eps);
  for (int64_t i = 0; i < a.width; ++i) {
    double value = (a.x[i] - mean) * inverse;
    if (a.scale != nullptr) value *= a.scale[i];
    if (a.shift != nullptr) value += a.shift[i];
    a.y[i] = static_cast<float>(value);
  }
}

}  // namespace

const VectorKernels& VectorKernelsScalar() {
  static constexpr VectorKernels kTable = {Isa::kScalar, Silu, GeluTanh, Softcap, ScaleScores, Softmax, Norm};
  return kTable;
}

const VectorKernels& VectorKernelsFor(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAvx512Vnni:
    case Isa::kAvx512: return VectorKernelsAvx512();
    case Isa::kAvx2: return VectorKernelsAvx2();
    default: return VectorKernelsScalar();
  }
#else
  APR_CHECK(isa == Isa::kScalar);
  return VectorKernelsScalar();
#endif
}

}  // namespace apr
