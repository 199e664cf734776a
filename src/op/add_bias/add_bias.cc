// See add_bias.h.
#include "op/add_bias/add_bias.h"

#include <algorithm>
#include <type_traits>

#include "op/context.h"
#include "op/infer.h"

namespace apr {
namespace {

struct BiasState final : CpuState {
  std::vector<float> bias;
};

template <typename Real>
void Add(const OpContext<Real>& context, std::span<const Real> bias) {
  const size_t width = bias.size();
  const std::span<const Real> x = context.inputs[0];
  const std::span<Real> y = context.outputs[0];
  const auto rows = static_cast<int64_t>(width == 0 ? 0 : x.size() / width);
  // Less than some thousand elements are not worth waking a thread for.
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, static_cast<int64_t>(width)));
  context.pool.ParallelFor(rows, grain, [&](int64_t begin, int64_t end, int) {
    const Real* b = bias.data();
    for (auto row = static_cast<size_t>(begin); row < static_cast<size_t>(end); ++row) {
      const Real* in = x.data() + row * width;
      Real* out = y.data() + row * width;
      for (size_t n = 0; n < width; ++n) out[n] = in[n] + b[n];
    }
  });
}

class AddBias final : public Op {
 public:
  const char* name() const override { return "add_bias"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const Value& x = InputOf(node, graph, 0);
    RequireWeight(node, graph, 0, Shape{x.width});
    return {{.kind = x.kind, .width = x.width}};
  }
  void Reference(const OpContext<double>& context) const override {
    const std::vector<double> bias = ReadWeightF64(*context.weights[0]);
    Add<double>(context, bias);
  }
  std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext& context) const override {
    auto state = std::make_unique<BiasState>();
    state->bias = ReadWeightF32(*context.weights[0]);
    return state;
  }
  void Cpu(const OpContext<float>& context) const override {
    Add<float>(context, static_cast<const BiasState*>(context.state)->bias);
  }
};

}  // namespace

const Op& AddBiasOp() {
  static const AddBias kOp;
  return kOp;
}

}  // namespace apr
