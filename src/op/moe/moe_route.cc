// See moe_route.h.
#include "op/moe/moe_route.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "op/context.h"
#include "op/infer.h"

namespace apr {
namespace {

struct RouteState final : CpuState {
  std::vector<double> correction;
};

void Softmax(std::vector<double>& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (double& v : x) sum += v = std::exp(v - largest);
  for (double& v : x) v /= sum;
}

// Indices of the `k` largest, best first. A NaN counts as largest, so that it stays visible.
std::vector<int64_t> TopK(const std::vector<double>& x, int64_t k) {
  std::vector<int64_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  const auto key = [&](int64_t i) { return std::isnan(x[static_cast<size_t>(i)]) ? INFINITY : x[static_cast<size_t>(i)]; };
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](int64_t a, int64_t b) { return key(a) != key(b) ? key(a) > key(b) : a < b; });
  order.resize(static_cast<size_t>(k));
  return order;
}

// The same choice in the order of torch.topk(sorted=False) on the CPU. Source: PyTorch
// aten/src/ATen/native/TopKImpl.h, topk_impl_loop: a selection by the C++ standard library, whose
// arrangement is this library's too.
std::vector<int64_t> UnsortedTopK(const std::vector<double>& x, int64_t k) {
  std::vector<std::pair<double, int64_t>> queue;
  for (size_t i = 0; i < x.size(); ++i) queue.emplace_back(x[i], static_cast<int64_t>(i));
  const auto before = [](const auto& a, const auto& b) { return (std::isnan(a.first) && !std::isnan(b.first)) || a.first > b.first; };
  if (k * 64 <= static_cast<int64_t>(queue.size())) std::partial_sort(queue.begin(), queue.begin() + k, queue.end(), before);
  else std::nth_element(queue.begin(), queue.begin() + k - 1, queue.end(), before);
  std::vector<int64_t> out;
  for (int64_t i = 0; i < k; ++i) out.push_back(queue[static_cast<size_t>(i)].second);
  return out;
}

// Experts outside the best groups can no longer be chosen.
void MaskGroups(const MoeRouteAttributes& a, std::vector<double>& choice, double masked) {
  const int64_t size = a.experts / a.groups;
  std::vector<double> score(static_cast<size_t>(a.groups));
  for (int64_t g = 0; g < a.groups; ++g) {
    const std::vector<double> group(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    const std::vector<int64_t> best = TopK(group, std::min<int64_t>(a.group_by_top2 ? 2 : 1, size));
    for (const int64_t i : best) score[static_cast<size_t>(g)] += group[static_cast<size_t>(i)];
  }
  std::vector<bool> kept(score.size(), false);
  for (const int64_t g : TopK(score, a.top_groups)) kept[static_cast<size_t>(g)] = true;
  for (int64_t e = 0; e < a.experts; ++e) {
    if (!kept[static_cast<size_t>(e / size)]) choice[static_cast<size_t>(e)] = masked;
  }
}

// One token. Router rows are short: both executors compute them in f64.
template <typename Real>
void Route(const MoeRouteAttributes& a, const std::vector<double>& correction, const Real* logits, Real* weights, Real* indices) {
  std::vector<double> score(logits, logits + a.experts);
  if (a.scoring == "softmax") Softmax(score);
  if (a.scoring == "sigmoid") {
    for (double& v : score) v = 1 / (1 + std::exp(-v));
  }
  std::vector<double> choice = score;
  for (size_t e = 0; e < correction.size(); ++e) choice[e] += correction[e];
  // DeepSeek-V2 masks probabilities with 0, V3 corrected scores, which may be negative, with -infinity.
  if (a.groups > 1) MaskGroups(a, choice, a.scoring == "softmax" ? 0.0 : -INFINITY);
  const std::vector<int64_t> chosen = a.unsorted ? UnsortedTopK(choice, a.top_k) : TopK(choice, a.top_k);
  std::vector<double> weight;
  for (const int64_t e : chosen) weight.push_back(score[static_cast<size_t>(e)]);
  if (a.scoring == "softmax_after_top_k") Softmax(weight);
  double sum = 0;
  for (const double w : weight) sum += w;
  for (size_t i = 0; i < weight.size(); ++i) {
    weights[i] = static_cast<Real>((a.normalize ? weight[i] / (sum + (a.scoring == "sigmoid" ? 1e-20 : 0)) : weight[i]) * a.scaling);
    indices[i] = static_cast<Real>(chosen[i]);
  }
}

template <typename Real>
void Route(const OpContext<Real>& context, const std::vector<double>& correction) {
  const auto& a = context.node.template As<MoeRouteAttributes>();
  std::vector<Real> unwanted(static_cast<size_t>(a.top_k));
  for (int64_t t = 0; t < context.batch.tokens(); ++t) {
    Real* indices = context.outputs[1].empty() ? unwanted.data() : context.outputs[1].data() + t * a.top_k;
    Route(a, correction, context.inputs[0].data() + t * a.experts, context.outputs[0].data() + t * a.top_k, indices);
  }
}

class MoeRoute final : public Op {
 public:
  const char* name() const override { return "moe_route"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const auto& a = node.As<MoeRouteAttributes>();
    if (InputOf(node, graph, 0).width != a.experts) ShapeError(node, "the logits have another number of experts");
    if (a.top_k < 1 || a.top_k > a.experts) ShapeError(node, "top_k is not in 1 .. experts");
    if (a.groups < 1 || a.experts % a.groups != 0 || a.top_groups < 1 || a.top_groups > a.groups ||
        a.top_k > a.experts / a.groups * a.top_groups) {
      ShapeError(node, "the expert groups do not fit");
    }
    if (a.scoring != "softmax" && a.scoring != "sigmoid" && a.scoring != "softmax_after_top_k") {
      ShapeError(node, "unknown scoring '" + a.scoring + "'");
    }
    if (!node.weights.empty()) RequireWeight(node, graph, 0, Shape{a.experts});
    return {{.kind = ValueKind::kTokens, .width = a.top_k}, {.kind = ValueKind::kTokens, .width = a.top_k, .name = "indices"}};
  }
  void Reference(const OpContext<double>& context) const override {
    Route(context, context.weights.empty() ? std::vector<double>() : ReadWeightF64(*context.weights[0]));
  }
  std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext& context) const override {
    auto state = std::make_unique<RouteState>();
    if (!context.weights.empty()) state->correction = ReadWeightF64(*context.weights[0]);
    return state;
  }
  void Cpu(const OpContext<float>& context) const override {
    Route(context, static_cast<const RouteState*>(context.state)->correction);
  }
};

}  // namespace

const Op& MoeRouteOp() {
  static const MoeRoute kOp;
  return kOp;
}

}  // namespace apr
