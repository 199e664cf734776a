// See elementwise.h.
#include "op/elementwise/elementwise.h"

#include <cmath>
#include <type_traits>

#include "op/context.h"
#include "op/infer.h"
#include "op/vector_kernels.h"

namespace apr {
namespace {

// Elements per task: less is not worth waking a thread for.
constexpr int64_t kElementGrain = 16384;

// An op whose output has the shape of its first input; Formula gives Run(context, begin, end) for a range
// of elements.
template <typename Formula, size_t kInputs>
class Elementwise final : public Op {
 public:
  const char* name() const override { return Formula::kName; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const Value& x = InputOf(node, graph, 0);
    for (size_t i = 1; i < kInputs; ++i) {
      const Value& other = InputOf(node, graph, i);
      if (other.width != x.width || other.kind != x.kind) ShapeError(node, "inputs of different width");
    }
    return {{.kind = x.kind, .width = x.width}};
  }
  void Reference(const OpContext<double>& context) const override { Run(context); }
  void Cpu(const OpContext<float>& context) const override { Run(context); }

 private:
  template <typename Real>
  static void Run(const OpContext<Real>& context) {
    context.pool.ParallelFor(static_cast<int64_t>(context.outputs[0].size()), kElementGrain,
                             [&](int64_t begin, int64_t end, int) {
                               Formula::Run(context, static_cast<size_t>(begin), static_cast<size_t>(end));
                             });
  }
};

struct AddFormula {
  static constexpr const char* kName = "add";
  template <typename Real>
  static void Run(const OpContext<Real>& c, size_t begin, size_t end) {
    const auto scale = static_cast<Real>(c.node.template As<AddAttributes>().scale);
    const Real* a = c.inputs[0].data();
    const Real* b = c.inputs[1].data();
    Real* y = c.outputs[0].data();
    if (scale == 1) {
      for (size_t i = begin; i < end; ++i) y[i] = a[i] + b[i];
    } else {
      for (size_t i = begin; i < end; ++i) y[i] = a[i] + scale * b[i];
    }
  }
};

struct MulFormula {
  static constexpr const char* kName = "mul";
  template <typename Real>
  static void Run(const OpContext<Real>& c, size_t begin, size_t end) {
    const Real* a = c.inputs[0].data();
    const Real* b = c.inputs[1].data();
    Real* y = c.outputs[0].data();
    for (size_t i = begin; i < end; ++i) y[i] = a[i] * b[i];
  }
};

struct ScaleFormula {
  static constexpr const char* kName = "scale";
  template <typename Real>
  static void Run(const OpContext<Real>& c, size_t begin, size_t end) {
    const auto factor = static_cast<Real>(c.node.template As<ScaleAttributes>().factor);
    for (size_t i = begin; i < end; ++i) c.outputs[0][i] = factor * c.inputs[0][i];
  }
};

struct ClampFormula {
  static constexpr const char* kName = "clamp";
  template <typename Real>
  static void Run(const OpContext<Real>& c, size_t begin, size_t end) {
    const auto limit = static_cast<Real>(c.node.template As<ClampAttributes>().limit);
    for (size_t i = begin; i < end; ++i) {
      // Comparisons are written so that a NaN passes through.
      const Real x = c.inputs[0][i];
      c.outputs[0][i] = x > limit ? limit : x < -limit ? -limit : x;
    }
  }
};

struct ClampedSwigluFormula {
  static constexpr const char* kName = "clamped_swiglu";
  template <typename Real>
  static void Run(const OpContext<Real>& c, size_t begin, size_t end) {
    const auto& a = c.node.template As<ClampedSwigluAttributes>();
    for (size_t i = begin; i < end; ++i) {
      // Comparisons are written so that a NaN passes through.
      double gate = c.inputs[0][i];
      double up = c.inputs[1][i];
      if (gate > a.limit) gate = a.limit;
      if (up > a.limit) up = a.limit;
      if (up < -a.limit) up = -a.limit;
      c.outputs[0][i] = static_cast<Real>((up + 1) * gate / (1 + std::exp(-a.alpha * gate)));
    }
  }
};

struct SoftcapFormula {
  static constexpr const char* kName = "softcap";
  template <typename Real>
  static void Run(const OpContext<Real>& c, size_t begin, size_t end) {
    const double cap = c.node.template As<SoftcapAttributes>().cap;
    if constexpr (std::is_same_v<Real, float>) {
      VectorKernelsFor(ActiveIsa())
          .softcap(c.inputs[0].data() + begin, static_cast<int64_t>(end - begin), cap, c.outputs[0].data() + begin);
    } else {
      for (size_t i = begin; i < end; ++i) c.outputs[0][i] = cap * std::tanh(c.inputs[0][i] / cap);
    }
  }
};

class SigmoidGate final : public Op {
 public:
  const char* name() const override { return "sigmoid_gate"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const Value& x = InputOf(node, graph, 0);
    if (InputOf(node, graph, 1).width != 1) ShapeError(node, "the gate must have one value per row");
    return {{.kind = x.kind, .width = x.width}};
  }
  void Reference(const OpContext<double>& context) const override { Run(context); }
  void Cpu(const OpContext<float>& context) const override { Run(context); }

 private:
  template <typename Real>
  static void Run(const OpContext<Real>& c) {
    const auto width = static_cast<size_t>(c.InputWidth(0));
    for (size_t row = 0; row < c.inputs[1].size(); ++row) {
      const auto gate = static_cast<Real>(1 / (1 + std::exp(-static_cast<double>(c.inputs[1][row]))));
      for (size_t i = row * width; i < (row + 1) * width; ++i) c.outputs[0][i] = c.inputs[0][i] * gate;
    }
  }
};

}  // namespace

const Op& ClampedSwigluOp() {
  static const Elementwise<ClampedSwigluFormula, 2> kOp;
  return kOp;
}
const Op& SigmoidGateOp() {
  static const SigmoidGate kOp;
  return kOp;
}
const Op& AddOp() {
  static const Elementwise<AddFormula, 2> kOp;
  return kOp;
}
const Op& MulOp() {
  static const Elementwise<MulFormula, 2> kOp;
  return kOp;
}
const Op& ScaleOp() {
  static const Elementwise<ScaleFormula, 1> kOp;
  return kOp;
}
const Op& ClampOp() {
  static const Elementwise<ClampFormula, 1> kOp;
  return kOp;
}
const Op& SoftcapOp() {
  static const Elementwise<SoftcapFormula, 1> kOp;
  return kOp;
}

}  // namespace apr
