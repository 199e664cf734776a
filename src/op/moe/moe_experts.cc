// See moe_experts.h.
#include "op/moe/moe_experts.h"

#include <algorithm>

#include "op/activation/activation.h"
#include "op/add_bias/add_bias.h"
#include "op/context.h"
#include "op/elementwise/elementwise.h"
#include "op/infer.h"
#include "op/linear/linear.h"

namespace apr {
namespace {

int64_t WeightsPerExpert(const MoeExpertsAttributes& a) { return a.bias ? 6 : 3; }

// The steps of one expert as a graph: x is value 1; weights are numbered as in the node's list.
Graph ExpertGraph(const MoeExpertsAttributes& a, int64_t hidden) {
  GraphBuilder b;
  const auto projection = [&](const char* name, ValueId x, int64_t out, int64_t in) {
    ValueId y = b.Add(LinearOp(), name, -1, LinearAttributes{}, {x}, {b.Weight(name, Shape{out, in})});
    if (a.bias) y = b.Add(AddBiasOp(), std::string(name) + "_bias", -1, AddBiasAttributes{}, {y}, {b.Weight(name, Shape{out})});
    return y;
  };
  const ValueId x = b.Input("x", hidden);
  const ValueId gate = projection("gate", x, a.ffn, hidden);
  const ValueId up = projection("up", x, a.ffn, hidden);
  ValueId inner;
  if (a.swiglu_limit > 0) {
    inner = b.Add(ClampedSwigluOp(), "swiglu", -1, ClampedSwigluAttributes{a.swiglu_limit, a.swiglu_alpha}, {gate, up});
  } else {
    const ValueId active = b.Add(ActivationOp(), "act", -1, ActivationAttributes{a.activation}, {gate});
    inner = b.Add(MulOp(), "mul", -1, MulAttributes{}, {active, up});
  }
  return b.Finish(projection("down", inner, hidden, a.ffn));
}

// CPU preparation: the expert's steps and, per expert and step, what the step's op prepared.
struct ExpertsState final : CpuState {
  Graph graph;
  std::vector<std::vector<std::unique_ptr<CpuState>>> steps;  // [expert][node]
};

// Runs the steps of one expert on `rows` rows.
template <typename Real>
class ExpertRun {
 public:
  ExpertRun(const OpContext<Real>& outer, const Graph& graph) : outer_(outer), graph_(graph), values_(graph.values.size()) {}

  std::span<Real> Input(int64_t rows) {
    rows_ = rows;
    ids_.assign(static_cast<size_t>(rows), 0);
    for (size_t v = 1; v < values_.size(); ++v) values_[v].resize(static_cast<size_t>(rows * graph_.values[v].width));
    return values_[1];
  }

  std::span<const Real> Run(int64_t expert, const std::vector<std::unique_ptr<CpuState>>* states) {
    const Batch batch{ids_, ids_, {}, {}};
    const auto first = static_cast<size_t>(expert * static_cast<int64_t>(graph_.weights.size()));
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      std::vector<std::span<const Real>> inputs;
      for (const ValueId id : node.inputs) inputs.push_back(values_[static_cast<size_t>(id)]);
      std::span<Real> output = values_[static_cast<size_t>(node.outputs[0])];
      std::vector<const WeightRef*> weights;
      for (const WeightId id : node.weights) weights.push_back(outer_.weights[first + static_cast<size_t>(id)]);
      const OpContext<Real> context{.node = node,
                                    .graph = graph_,
                                    .batch = batch,
                                    .inputs = inputs,
                                    .outputs = {&output, 1},
                                    .weights = weights,
                                    .caches = {},
                                    .pool = outer_.pool,
                                    .precision = outer_.precision,
                                    .state = states == nullptr ? nullptr : (*states)[i].get()};
      if constexpr (sizeof(Real) == 8) node.op->Reference(context);
      else node.op->Cpu(context);
    }
    return values_[static_cast<size_t>(graph_.logits)];
  }

 private:
  const OpContext<Real>& outer_;
  const Graph& graph_;
  std::vector<std::vector<Real>> values_;
  std::vector<int32_t> ids_;
  int64_t rows_ = 0;
};

// Where a token's k-th choice goes.
struct Visit {
  int64_t token;
  int64_t choice;
};

template <typename Real>
std::vector<std::vector<Visit>> VisitsOf(const OpContext<Real>& context, int64_t experts) {
  const int64_t k = context.InputWidth(2);
  std::vector<std::vector<Visit>> out(static_cast<size_t>(experts));
  for (int64_t t = 0; t < context.batch.tokens(); ++t) {
    for (int64_t j = 0; j < k; ++j) {
      const auto expert = static_cast<int64_t>(context.inputs[2][static_cast<size_t>(t * k + j)]);
      if (expert >= 0 && expert < experts) out[static_cast<size_t>(expert)].push_back({t, j});
    }
  }
  return out;
}

template <typename Real>
void RunExperts(const OpContext<Real>& context, const Graph& graph, const ExpertsState* state) {
  const auto& a = context.node.template As<MoeExpertsAttributes>();
  const int64_t hidden = context.OutputWidth(0);
  const int64_t k = context.InputWidth(2);
  const int64_t tokens = context.batch.tokens();
  const auto visits = VisitsOf(context, a.experts);
  // What each choice contributes, before its weight: summed afterwards in the order of the choices, so
  // that a token's result does not depend on which other tokens share its experts.
  std::vector<Real> contribution(static_cast<size_t>(tokens * k * hidden));
  ExpertRun<Real> run(context, graph);
  for (int64_t e = 0; e < a.experts; ++e) {
    const std::vector<Visit>& list = visits[static_cast<size_t>(e)];
    if (list.empty()) continue;
    Real* x = run.Input(static_cast<int64_t>(list.size())).data();
    for (const Visit& visit : list) x = std::copy_n(context.inputs[0].data() + visit.token * hidden, hidden, x);
    const Real* y = run.Run(e, state == nullptr ? nullptr : &state->steps[static_cast<size_t>(e)]).data();
    for (const Visit& visit : list) {
      std::copy_n(y, hidden, contribution.data() + (visit.token * k + visit.choice) * hidden);
      y += hidden;
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    Real* out = context.outputs[0].data() + t * hidden;
    std::fill_n(out, hidden, Real{0});
    for (int64_t j = 0; j < k; ++j) {
      const Real weight = context.inputs[1][static_cast<size_t>(t * k + j)];
      const Real* y = contribution.data() + (t * k + j) * hidden;
      for (int64_t i = 0; i < hidden; ++i) out[i] += weight * y[i];
    }
  }
}

class MoeExperts final : public Op {
 public:
  const char* name() const override { return "moe_experts"; }

  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const auto& a = node.As<MoeExpertsAttributes>();
    const Value& x = InputOf(node, graph, 0);
    if (InputOf(node, graph, 1).width != InputOf(node, graph, 2).width) ShapeError(node, "as many weights as indices are needed");
    if (static_cast<int64_t>(node.weights.size()) != a.experts * WeightsPerExpert(a)) ShapeError(node, "every expert needs its weights");
    const Graph expert = ExpertGraph(a, x.width);
    for (size_t i = 0; i < node.weights.size(); ++i) RequireWeight(node, graph, i, expert.weights[i % expert.weights.size()].shape);
    return {{.kind = ValueKind::kTokens, .width = x.width}};
  }

  void Reference(const OpContext<double>& context) const override {
    const Graph graph = ExpertGraph(context.node.As<MoeExpertsAttributes>(), context.OutputWidth(0));
    RunExperts(context, graph, nullptr);
  }

  std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext& context) const override {
    const auto& a = context.node.As<MoeExpertsAttributes>();
    auto state = std::make_unique<ExpertsState>();
    state->graph = ExpertGraph(a, context.graph.values[static_cast<size_t>(context.node.inputs[0])].width);
    const size_t per_expert = state->graph.weights.size();
    for (size_t e = 0; e < static_cast<size_t>(a.experts); ++e) {
      state->steps.emplace_back();
      for (const Node& node : state->graph.nodes) {
        std::vector<const WeightRef*> weights;
        for (const WeightId id : node.weights) weights.push_back(context.weights[e * per_expert + static_cast<size_t>(id)]);
        state->steps.back().push_back(node.op->PrepareCpu({node, state->graph, weights, context.precision}));
      }
    }
    return state;
  }

  void Cpu(const OpContext<float>& context) const override {
    const auto* state = static_cast<const ExpertsState*>(context.state);
    RunExperts(context, state->graph, state);
  }
};

}  // namespace

const Op& MoeExpertsOp() {
  static const MoeExperts kOp;
  return kOp;
}

}  // namespace apr
