// Replay() of executor.h: one node of a graph, run by itself on given inputs.
#include <algorithm>
#include <numeric>
#include <utility>

#include "exec/executor.h"
#include "op/attention/attention.h"

namespace apr {
namespace {

// Cache memory for one fresh sequence of one attention node.
template <typename Real>
struct FreshCache {
  FreshCache(const AttentionAttributes& a, int64_t tokens)
      : keys(static_cast<size_t>(a.kv_heads * tokens * a.k_dim)),
        values(static_cast<size_t>(a.kv_heads * tokens * a.v_dim)),
        view{keys.data(), values.data(), tokens, a.k_dim, a.v_dim} {}
  std::vector<Real> keys;
  std::vector<Real> values;
  KvCache<Real> view;
};

int64_t OutputElements(const Value& value, int64_t tokens) {
  return value.kind == ValueKind::kScores ? value.width * tokens * tokens : value.width * tokens;
}

}  // namespace

template <typename Real>
std::vector<std::vector<Real>> Replay(const ReplayRequest<Real>& request, ThreadPool& pool) {
  const Graph& graph = request.model.graph;
  Node node = graph.nodes[request.node];
  if (request.attributes != nullptr) node.attributes = request.attributes->Clone();

  std::vector<const WeightRef*> weights;
  std::vector<std::shared_ptr<const void>> held;
  for (size_t i = 0; i < node.weights.size(); ++i) {
    weights.push_back(request.weights != nullptr ? &(*request.weights)[i]
                                                 : &request.model.weights[static_cast<size_t>(node.weights[i])]);
    held.push_back(weights.back()->Hold());
  }
  std::vector<int32_t> positions(static_cast<size_t>(request.tokens));
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<int64_t> rows(positions.begin(), positions.end());
  std::vector<int32_t> ids(request.ids.begin(), request.ids.end());
  ids.resize(positions.size());
  const SequenceSpan span{0, 0, request.tokens, 0, request.tokens};
  const Batch batch{ids, positions, {&span, 1}, rows};

  // Widths may change with the attributes, so they are inferred again.
  const std::vector<Value> made = node.op->Infer(node, graph);
  std::vector<std::vector<Real>> outputs(made.size());
  std::vector<std::span<Real>> spans;
  for (size_t i = 0; i < made.size(); ++i) {
    if (i == 0 || request.all_outputs) outputs[i].resize(static_cast<size_t>(OutputElements(made[i], request.tokens)));
    spans.push_back(outputs[i]);
  }
  std::vector<FreshCache<Real>> caches;
  std::vector<KvCache<Real>> views;
  if (node.op == &AttentionOp()) {
    caches.emplace_back(node.As<AttentionAttributes>(), request.tokens);
    views.push_back(caches.back().view);
  }
  std::unique_ptr<CpuState> state;
  if constexpr (sizeof(Real) == 4) state = node.op->PrepareCpu({node, graph, weights, request.precision});
  const OpContext<Real> context{.node = node,
                                .graph = graph,
                                .batch = batch,
                                .inputs = request.inputs,
                                .outputs = spans,
                                .weights = weights,
                                .caches = views,
                                .pool = pool,
                                .precision = request.precision,
                                .state = state.get()};
  if constexpr (sizeof(Real) == 8) {
    node.op->Reference(context);
  } else {
    node.op->Cpu(context);
  }
  return outputs;
}

template std::vector<std::vector<double>> Replay(const ReplayRequest<double>&, ThreadPool&);
template std::vector<std::vector<float>> Replay(const ReplayRequest<float>&, ThreadPool&);

}  // namespace apr
