// See elementwise.h.
#include "op/elementwise/elementwise.h"

#include <cmath>

#include "op/context.h"
#include "op/infer.h"

namespace apr {
namespace {

// An op whose output has the shape of its first input; Formula gives Run(context).
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
  void Reference(const OpContext<double>& context) const override { Formula::Run(context); }
  void Cpu(const OpContext<float>& context) const override { Formula::Run(context); }
};

struct AddFormula {
  static constexpr const char* kName = "add";
  template <typename Real>
  static void Run(const OpContext<Real>& c) {
    const auto scale = static_cast<Real>(c.node.template As<AddAttributes>().scale);
    const size_t n = c.outputs[0].size();
    if (scale == 1) {
      for (size_t i = 0; i < n; ++i) c.outputs[0][i] = c.inputs[0][i] + c.inputs[1][i];
    } else {
      for (size_t i = 0; i < n; ++i) c.outputs[0][i] = c.inputs[0][i] + scale * c.inputs[1][i];
    }
  }
};

struct MulFormula {
  static constexpr const char* kName = "mul";
  template <typename Real>
  static void Run(const OpContext<Real>& c) {
    for (size_t i = 0; i < c.outputs[0].size(); ++i) c.outputs[0][i] = c.inputs[0][i] * c.inputs[1][i];
  }
};

struct ScaleFormula {
  static constexpr const char* kName = "scale";
  template <typename Real>
  static void Run(const OpContext<Real>& c) {
    const auto factor = static_cast<Real>(c.node.template As<ScaleAttributes>().factor);
    for (size_t i = 0; i < c.outputs[0].size(); ++i) c.outputs[0][i] = factor * c.inputs[0][i];
  }
};

struct ClampedSwigluFormula {
  static constexpr const char* kName = "clamped_swiglu";
  template <typename Real>
  static void Run(const OpContext<Real>& c) {
    const auto& a = c.node.template As<ClampedSwigluAttributes>();
    for (size_t i = 0; i < c.outputs[0].size(); ++i) {
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
  static void Run(const OpContext<Real>& c) {
    const double cap = c.node.template As<SoftcapAttributes>().cap;
    for (size_t i = 0; i < c.outputs[0].size(); ++i) {
      c.outputs[0][i] = static_cast<Real>(cap * std::tanh(c.inputs[0][i] / cap));
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
const Op& SoftcapOp() {
  static const Elementwise<SoftcapFormula, 1> kOp;
  return kOp;
}

}  // namespace apr
