// See norm.h.
#include "op/norm/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "op/context.h"
#include "op/infer.h"
#include "op/vector_kernels.h"

namespace apr {
namespace {

template <typename Real>
struct Parameters {
  std::vector<Real> scale;  // w + offset, or empty
  std::vector<Real> shift;  // b, or empty
};

struct NormState final : CpuState {
  Parameters<float> parameters;
};

template <typename Real>
Parameters<Real> ReadParameters(const NormAttributes& a, std::span<const WeightRef* const> weights) {
  Parameters<Real> out;
  if (!weights.empty()) {
    for (const double w : ReadWeightF64(*weights[0])) out.scale.push_back(static_cast<Real>(w + a.offset));
  }
  if (weights.size() > 1) {
    for (const double b : ReadWeightF64(*weights[1])) out.shift.push_back(static_cast<Real>(b));
  }
  return out;
}

// Sums are f64 on both executors: they cost nothing beside the products, and a norm then adds no
// error of its own beyond one rounding of each result.
template <typename Real>
void NormalizeGroup(const NormAttributes& a, const Parameters<Real>& p, const Real* x, size_t width,
                    size_t first_weight, Real* y) {
  double sum = 0;
  double mean = 0;
  if (a.layer_norm) {
    for (size_t i = 0; i < width; ++i) sum += x[i];
    mean = sum / static_cast<double>(width);
  }
  double squares = 0;
  for (size_t i = 0; i < width; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double inverse = 1 / std::sqrt(squares / static_cast<double>(width) + a.eps);
  for (size_t i = 0; i < width; ++i) {
    double value = (x[i] - mean) * inverse;
    if (!p.scale.empty()) value *= p.scale[first_weight + i];
    if (!p.shift.empty()) value += p.shift[first_weight + i];
    y[i] = static_cast<Real>(value);
  }
}

template <typename Real>
void Normalize(const OpContext<Real>& context, const Parameters<Real>& parameters) {
  const auto& a = context.node.template As<NormAttributes>();
  const auto width = static_cast<size_t>(context.InputWidth(0) / a.groups);
  const std::span<const Real> x = context.inputs[0];
  const std::span<Real> y = context.outputs[0];
  const auto groups = static_cast<int64_t>(x.size() / width);
  context.pool.ParallelFor(groups, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) {
      const size_t at = static_cast<size_t>(g) * width;
      const size_t first = a.weight_per_group ? static_cast<size_t>(g % a.groups) * width : 0;
      NormalizeGroup(a, parameters, x.data() + at, width, first, y.data() + at);
    }
  });
}

// The same on the vector kernels; a few thousand elements are not worth waking a thread for.
void RunCpu(const OpContext<float>& context, const Parameters<float>& p) {
  const auto& a = context.node.As<NormAttributes>();
  const VectorKernels& kernels = VectorKernelsFor(ActiveIsa());
  const int64_t width = context.InputWidth(0) / a.groups;
  const float* x = context.inputs[0].data();
  float* y = context.outputs[0].data();
  const int64_t groups = static_cast<int64_t>(context.inputs[0].size()) / width;
  context.pool.ParallelFor(groups, std::max<int64_t>(1, 8192 / width), [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t first = a.weight_per_group ? g % a.groups * width : 0;
      kernels.norm({.x = x + g * width,
                    .width = width,
                    .layer_norm = a.layer_norm,
                    .eps = a.eps,
                    .scale = p.scale.empty() ? nullptr : p.scale.data() + first,
                    .shift = p.shift.empty() ? nullptr : p.shift.data() + first,
                    .y = y + g * width});
    }
  });
}

class Norm final : public Op {
 public:
  const char* name() const override { return "norm"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const auto& a = node.As<NormAttributes>();
    const Value& x = InputOf(node, graph, 0);
    if (a.groups < 1 || x.width % a.groups != 0) ShapeError(node, "the width is no multiple of the groups");
    const int64_t width = a.weight_per_group ? x.width : x.width / a.groups;
    for (size_t i = 0; i < node.weights.size(); ++i) {
      if (WeightShapeOf(node, graph, i).num_elements() != width) RequireWeight(node, graph, i, Shape{width});
    }
    return {{.kind = x.kind, .width = x.width}};
  }
  void Reference(const OpContext<double>& context) const override {
    Normalize(context, ReadParameters<double>(context.node.As<NormAttributes>(), context.weights));
  }
  std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext& context) const override {
    auto state = std::make_unique<NormState>();
    state->parameters = ReadParameters<float>(context.node.As<NormAttributes>(), context.weights);
    return state;
  }
  void Cpu(const OpContext<float>& context) const override {
    RunCpu(context, static_cast<const NormState*>(context.state)->parameters);
  }
};

}  // namespace

const Op& NormOp() {
  static const Norm kOp;
  return kOp;
}

}  // namespace apr
