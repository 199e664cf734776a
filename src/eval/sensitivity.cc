// See sensitivity.h.
#include "eval/sensitivity.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "quant/quant.h"

namespace apr {
namespace {

// B's tensors with the weights of A's graph that they stand for. The same node and place is the same weight.
std::map<std::string, std::map<size_t, size_t>> Correspondence(const BoundGraph& a, const BoundGraph& b) {
  std::map<std::string, std::map<size_t, size_t>> out;
  for (size_t n = 0; n < a.graph.nodes.size(); ++n) {
    const Node& x = a.graph.nodes[n];
    const Node& y = b.graph.nodes[n];
    if (x.weights.size() != y.weights.size()) throw Error(ErrorCode::kValidationFailed, "the two models do not compute alike: weights of " + x.name);
    for (size_t i = 0; i < x.weights.size(); ++i) {
      const auto from = static_cast<size_t>(y.weights[i]);
      out[b.weights[from].source][static_cast<size_t>(x.weights[i])] = from;
    }
  }
  return out;
}

bool LosesInformation(DType a, DType b) { return b != a && TypicalRelativeError(b) > TypicalRelativeError(a); }

}  // namespace

std::vector<TensorCost> TensorCosts(std::shared_ptr<const Model> a, const Model& b, std::span<const int32_t> ids,
                                    const ExecutorOptions& options, const std::function<void(int64_t)>& progress) {
  const auto bound = a->bound();
  const auto tokens = static_cast<int64_t>(ids.size());
  const WindowPlan plan = PlanTransformersWindows(tokens, tokens, tokens);
  const SessionOptions session_options{.compute = options};
  Session base(a, session_options);
  std::vector<TensorCost> out;
  for (const auto& [tensor, weights] : Correspondence(*bound, *b.bound())) {
    TensorCost cost{.tensor = tensor};
    auto changed = std::make_shared<BoundGraph>(*bound);
    bool loses = false;
    for (const auto& [to, from] : weights) {
      const WeightRef& weight = b.bound()->weights[from];
      loses |= LosesInformation(bound->weights[to].view.dtype, weight.view.dtype);
      cost.type = weight.view.dtype;
      cost.weights.push_back(to);
      changed->weights[to] = weight;
    }
    if (progress) progress(1);
    if (!loses) continue;
    Session other(a, session_options, changed);
    const Divergence d = Diverge(base, other, ids, plan, {});
    cost.kld = d.kld.mean;
    cost.kld_error = d.kld.error;
    out.push_back(std::move(cost));
  }
  std::ranges::stable_sort(out, std::greater<>{}, &TensorCost::kld);
  return out;
}

}  // namespace apr
