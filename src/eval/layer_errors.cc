// See layer_errors.h.
#include "eval/layer_errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "op/attention/attention.h"

namespace apr {
namespace {

using Values = std::vector<std::vector<float>>;

void RequireAlike(const Graph& a, const Graph& b) {
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::kValidationFailed, "the two models do not compute alike: " + what);
  };
  if (a.nodes.size() != b.nodes.size()) refuse(fmt::format("{} and {} ops", a.nodes.size(), b.nodes.size()));
  for (size_t i = 0; i < a.nodes.size(); ++i) {
    const Node& x = a.nodes[i];
    const Node& y = b.nodes[i];
    if (x.name != y.name || x.op != y.op) refuse(fmt::format("'{}' and '{}'", x.name, y.name));
    if (x.inputs != y.inputs || x.outputs != y.outputs) refuse(fmt::format("the inputs of '{}'", x.name));
    for (const ValueId id : x.outputs) {
      const auto v = static_cast<size_t>(id);
      if (a.values[v].width != b.values[v].width) refuse(fmt::format("'{}' has width {} and {}", x.name, a.values[v].width, b.values[v].width));
    }
  }
}

// The last node that reads each value.
std::vector<size_t> LastUses(const Graph& graph) {
  std::vector<size_t> last(graph.values.size(), 0);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const ValueId id : graph.nodes[i].inputs) last[static_cast<size_t>(id)] = i;
  }
  return last;
}

double RelativeError(std::span<const float> a, std::span<const float> b) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double gap = static_cast<double>(a[i]) - b[i];
    error += gap * gap;
    norm += static_cast<double>(a[i]) * a[i];
  }
  if (!std::isfinite(error) || !std::isfinite(norm)) return std::numeric_limits<double>::infinity();
  return error == 0 ? 0 : std::sqrt(error / norm);
}

// Runs nodes of one model on values that may come from another.
struct Runner {
  const BoundGraph& model;
  std::span<const int32_t> ids;
  ThreadPool& pool;

  Values Run(size_t node, const Values& values) const {
    const Node& n = model.graph.nodes[node];
    ReplayRequest<float> request{.model = model, .node = node, .inputs = {}, .tokens = static_cast<int64_t>(ids.size()), .ids = ids};
    for (const ValueId id : n.inputs) request.inputs.emplace_back(values[static_cast<size_t>(id)]);
    request.all_outputs = n.op != &AttentionOp();  // its matrices are not needed
    return Replay(request, pool);
  }
};

// Both sides' weights are the same bytes read in the same way.
bool SameWeights(const BoundGraph& a, const BoundGraph& b, const Node& x, const Node& y) {
  if (x.weights.size() != y.weights.size()) return false;
  for (size_t i = 0; i < x.weights.size(); ++i) {
    const WeightRef& w = a.weights[static_cast<size_t>(x.weights[i])];
    const WeightRef& v = b.weights[static_cast<size_t>(y.weights[i])];
    if (w.view.dtype != v.view.dtype || !(w.view.shape == v.view.shape) || w.add != v.add) return false;
    if ((w.row_order == nullptr) != (v.row_order == nullptr) || (w.row_order && *w.row_order != *v.row_order)) return false;
    const auto held_w = w.Hold(), held_v = v.Hold();
    if (!std::ranges::equal(w.view.bytes, v.view.bytes)) return false;
  }
  return true;
}

void Keep(Values& values, const Node& node, Values&& made) {
  for (size_t i = 0; i < node.outputs.size() && i < made.size(); ++i) values[static_cast<size_t>(node.outputs[i])] = std::move(made[i]);
}

}  // namespace

std::vector<OpError> OpErrors(const BoundGraph& a, const BoundGraph& b, std::span<const int32_t> ids, ThreadPool& pool,
                              const std::function<void(int64_t)>& progress) {
  RequireAlike(a.graph, b.graph);
  const std::vector<size_t> last = LastUses(a.graph);
  const Runner run_a{a, ids, pool};
  const Runner run_b{b, ids, pool};
  Values values_a(a.graph.values.size());
  Values values_b(a.graph.values.size());
  std::vector<OpError> out;
  for (size_t i = 0; i < a.graph.nodes.size(); ++i) {
    const Node& x = a.graph.nodes[i];
    const Node& y = b.graph.nodes[i];
    OpError error{.node = x.name, .op = x.op->name(), .layer = x.layer, .tensors = {}};
    for (const WeightId w : y.weights) error.tensors.push_back(b.weights[static_cast<size_t>(w)].source);
    Values made_a = run_a.Run(i, values_a);
    Values made_b = run_b.Run(i, values_b);
    error.propagated = RelativeError(made_a[0], made_b[0]);
    const bool same = x.attributes->ToString() == y.attributes->ToString() && SameWeights(a, b, x, y);
    if (!same) error.own = RelativeError(made_a[0], run_b.Run(i, values_a)[0]);
    Keep(values_a, x, std::move(made_a));
    Keep(values_b, y, std::move(made_b));
    for (const ValueId id : x.inputs) {
      const auto v = static_cast<size_t>(id);
      if (last[v] != i) continue;
      values_a[v] = {};
      values_b[v] = {};
    }
    out.push_back(std::move(error));
    if (progress) progress(1);
  }
  return out;
}

}  // namespace apr
