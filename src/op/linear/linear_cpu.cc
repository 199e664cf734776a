// See linear_cpu.h.
#include "op/linear/linear_cpu.h"

#include <vector>

#include "op/context.h"

namespace apr {
namespace {

float Dot(const float* x, const float* w, int64_t n) {
  constexpr int kLanes = 16;
  float lane[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += x[k + j] * w[k + j];
  }
  for (int j = 0; k + j < n; ++j) lane[j] += x[k + j] * w[k + j];
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

}  // namespace

std::unique_ptr<CpuState> PrepareLinearCpu(const CpuPrepareContext&) { return nullptr; }

void LinearCpu(const OpContext<float>& context) {
  const WeightRef& weight = *context.weights[0];
  const int64_t rows = context.InputRows(0);
  const int64_t n_in = context.InputWidth(0);
  const int64_t n_out = context.OutputWidth(0);
  const float* x = context.inputs[0].data();
  float* y = context.outputs[0].data();
  context.pool.ParallelFor(n_out, 16, [&](int64_t begin, int64_t end, int) {
    std::vector<float> w(static_cast<size_t>(n_in));
    for (int64_t n = begin; n < end; ++n) {
      ReadWeightRow(weight, n, std::span<float>(w));
      for (int64_t t = 0; t < rows; ++t) y[t * n_out + n] = Dot(x + t * n_in, w.data(), n_in);
    }
  });
}

}  // namespace apr
