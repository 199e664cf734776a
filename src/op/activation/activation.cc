// See activation.h.
#include "op/activation/activation.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "op/context.h"
#include "op/infer.h"
#include "op/vector_kernels.h"

namespace apr {
namespace {

double Silu(double x) { return x / (1 + std::exp(-x)); }
double GeluTanh(double x) {
  const double scale = std::sqrt(2 / std::numbers::pi);
  return 0.5 * x * (1 + std::tanh(scale * (x + 0.044715 * x * x * x)));
}
double GeluErf(double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); }
double QuickGelu(double x) { return x / (1 + std::exp(-1.702 * x)); }
double Relu(double x) { return x > 0 ? x : 0; }
double ReluSquared(double x) { return x > 0 ? x * x : 0; }

struct Row {
  const char* kind;
  double (*function)(double);
};
constexpr Row kTable[] = {{"silu", Silu},   {"gelu_tanh", GeluTanh}, {"gelu", GeluErf},
                          {"quick_gelu", QuickGelu}, {"relu", Relu}, {"relu2", ReluSquared}};

// Elements per task.
constexpr int64_t kGrain = 4096;

template <typename Real>
void Activate(const OpContext<Real>& context) {
  double (*const f)(double) = ActivationFunction(context.node.template As<ActivationAttributes>().kind);
  const std::span<const Real> x = context.inputs[0];
  const std::span<Real> y = context.outputs[0];
  context.pool.ParallelFor(static_cast<int64_t>(x.size()), kGrain, [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      y[i] = static_cast<Real>(f(x[i]));
    }
  });
}

void RunCpu(const OpContext<float>& context) {
  const std::string& kind = context.node.As<ActivationAttributes>().kind;
  const VectorKernels& kernels = VectorKernelsFor(ActiveIsa());
  void (*kernel)(const float*, int64_t, float*) = nullptr;
  if (kind == "silu") kernel = kernels.silu;
  if (kind == "gelu_tanh") kernel = kernels.gelu_tanh;
  if (kernel == nullptr) return Activate(context);
  const float* x = context.inputs[0].data();
  float* y = context.outputs[0].data();
  context.pool.ParallelFor(static_cast<int64_t>(context.inputs[0].size()), kGrain,
                           [&](int64_t begin, int64_t end, int) { kernel(x + begin, end - begin, y + begin); });
}

class Activation final : public Op {
 public:
  const char* name() const override { return "activation"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    ActivationFunction(node.As<ActivationAttributes>().kind);
    const Value& x = InputOf(node, graph, 0);
    return {{.kind = x.kind, .width = x.width}};
  }
  void Reference(const OpContext<double>& context) const override { Activate(context); }
  void Cpu(const OpContext<float>& context) const override { RunCpu(context); }
};

}  // namespace

bool IsActivation(std::string_view kind) {
  for (const Row& row : kTable) {
    if (kind == row.kind) return true;
  }
  return false;
}

double (*ActivationFunction(std::string_view kind))(double) {
  for (const Row& row : kTable) {
    if (kind == row.kind) return row.function;
  }
  throw Error(ErrorCode::kModelLoad, "unknown activation '" + std::string(kind) + "'");
}

const Op& ActivationOp() {
  static const Activation kOp;
  return kOp;
}

}  // namespace apr
