// See type_plan.h.
#include "eval/type_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <queue>

#include "base/error.h"

namespace apr {
namespace {

double Saving(const TypeChoice& from, const TypeChoice& to) {
  return (from.cost - to.cost) / static_cast<double>(to.bytes - from.bytes);
}

// The choices that some weighting of bytes against cost would take: sizes rise, costs fall, savings per byte fall.
std::vector<TypeChoice> LowerHull(std::vector<TypeChoice> choices) {
  std::ranges::sort(choices, [](const TypeChoice& a, const TypeChoice& b) { return a.bytes != b.bytes ? a.bytes < b.bytes : a.cost < b.cost; });
  std::vector<TypeChoice> hull;
  for (const TypeChoice& c : choices) {
    if (!hull.empty() && (c.bytes == hull.back().bytes || c.cost >= hull.back().cost)) continue;
    while (hull.size() > 1 && Saving(hull[hull.size() - 2], hull.back()) <= Saving(hull.back(), c)) hull.pop_back();
    hull.push_back(c);
  }
  return hull;
}

struct Step {
  double saving;
  size_t tensor;
  size_t to;
  bool operator<(const Step& other) const { return saving != other.saving ? saving < other.saving : tensor > other.tensor; }
};

}  // namespace

CheapestTypes PlanTensorTypes(const std::vector<TensorChoices>& tensors, uint64_t budget) {
  std::vector<std::vector<TypeChoice>> hulls;
  std::priority_queue<Step> steps;
  CheapestTypes out;
  for (size_t t = 0; t < tensors.size(); ++t) {
    hulls.push_back(LowerHull(tensors[t].choices));
    out.chosen.push_back(hulls[t].front());
    out.bytes += hulls[t].front().bytes;
    if (hulls[t].size() > 1) steps.push({Saving(hulls[t][0], hulls[t][1]), t, 1});
  }
  if (out.bytes > budget) {
    throw Error(ErrorCode::kUsage, fmt::format("the smallest types take {} bytes, more than the {} that are allowed", out.bytes, budget));
  }
  while (!steps.empty()) {
    const Step step = steps.top();
    steps.pop();
    const auto& hull = hulls[step.tensor];
    const uint64_t more = hull[step.to].bytes - out.chosen[step.tensor].bytes;
    if (out.bytes + more > budget) continue;  // a smaller step of another tensor may still fit
    out.bytes += more;
    out.chosen[step.tensor] = hull[step.to];
    if (step.to + 1 < hull.size()) steps.push({Saving(hull[step.to], hull[step.to + 1]), step.tensor, step.to + 1});
  }
  for (const TypeChoice& c : out.chosen) out.cost += c.cost;
  return out;
}

}  // namespace apr
