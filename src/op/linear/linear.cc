// See linear.h. The f64 definition; the CPU kernels are in linear_cpu.cc.
#include "op/linear/linear.h"

#include <algorithm>
#include <vector>

#include "op/context.h"
#include "op/infer.h"
#include "op/linear/linear_cpu.h"

namespace apr {
namespace {

// Sum over k in f64, eight interleaved partial sums: an order that does not depend on the batch.
double RowDot(const double* x, const double* w, int64_t n) {
  constexpr int kLanes = 8;
  double lane[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += x[k + j] * w[k + j];
  }
  for (int j = 0; k + j < n; ++j) lane[j] += x[k + j] * w[k + j];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

class Linear final : public Op {
 public:
  const char* name() const override { return "linear"; }

  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const Value& x = InputOf(node, graph, 0);
    const Shape& w = WeightShapeOf(node, graph, 0);
    if (w.ndim() != 2 || w[1] != x.width) {
      ShapeError(node, "weight " + w.ToString() + " does not fit an input of width " + std::to_string(x.width));
    }
    return {{.kind = x.kind, .width = w[0]}};
  }

  void Reference(const OpContext<double>& context) const override {
    const WeightRef& weight = *context.weights[0];
    const int64_t rows = context.InputRows(0);
    const int64_t n_in = context.InputWidth(0);
    const int64_t n_out = context.OutputWidth(0);
    const double* x = context.inputs[0].data();
    double* y = context.outputs[0].data();
    context.pool.ParallelFor(n_out, 16, [&](int64_t begin, int64_t end, int) {
      std::vector<double> w(static_cast<size_t>(n_in));
      for (int64_t n = begin; n < end; ++n) {
        ReadWeightRow(weight, n, std::span<double>(w));
        for (int64_t t = 0; t < rows; ++t) y[t * n_out + n] = RowDot(x + t * n_in, w.data(), n_in);
      }
    });
  }

  std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext& context) const override {
    return PrepareLinearCpu(context);
  }
  void Cpu(const OpContext<float>& context) const override { LinearCpu(context); }
};

}  // namespace

const Op& LinearOp() {
  static const Linear kOp;
  return kOp;
}

}  // namespace apr
