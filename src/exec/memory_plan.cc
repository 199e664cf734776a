// See memory_plan.h.
#include "exec/memory_plan.h"

#include <algorithm>

namespace apr {
namespace {

// Index of the last node that reads each value; the logits live to the end.
std::vector<int> LastUses(const Graph& graph) {
  std::vector<int> last(graph.values.size(), -1);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const ValueId id : graph.nodes[i].inputs) last[static_cast<size_t>(id)] = static_cast<int>(i);
  }
  last[static_cast<size_t>(graph.logits)] = static_cast<int>(graph.nodes.size());
  return last;
}

// The free buffer whose width fits best, or a new one. Removes it from `free`.
int Take(MemoryPlan& plan, std::vector<int>& free, int64_t width) {
  if (free.empty()) {
    plan.widths.push_back(width);
    return static_cast<int>(plan.widths.size()) - 1;
  }
  const auto waste = [&](int buffer) {
    const int64_t have = plan.widths[static_cast<size_t>(buffer)];
    return have >= width ? have - width : 2 * (width - have);
  };
  const auto best = std::min_element(free.begin(), free.end(), [&](int a, int b) { return waste(a) < waste(b); });
  const int buffer = *best;
  free.erase(best);
  int64_t& have = plan.widths[static_cast<size_t>(buffer)];
  have = std::max(have, width);
  return buffer;
}

}  // namespace

MemoryPlan PlanMemory(const Graph& graph) {
  const std::vector<int> last = LastUses(graph);
  MemoryPlan plan;
  plan.buffer_of.assign(graph.values.size(), -1);
  std::vector<int> free;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    for (const ValueId id : node.outputs) {
      const Value& value = graph.values[static_cast<size_t>(id)];
      if (value.kind != ValueKind::kScores) plan.buffer_of[static_cast<size_t>(id)] = Take(plan, free, value.width);
    }
    // Freed only after the outputs are placed: no op works in place. A value read twice by one node
    // is released once; an output nobody reads is released at once.
    std::vector<ValueId> ending = node.inputs;
    ending.insert(ending.end(), node.outputs.begin(), node.outputs.end());
    std::sort(ending.begin(), ending.end());
    ending.erase(std::unique(ending.begin(), ending.end()), ending.end());
    for (const ValueId id : ending) {
      const auto v = static_cast<size_t>(id);
      if (plan.buffer_of[v] >= 0 && last[v] <= static_cast<int>(i)) free.push_back(plan.buffer_of[v]);
    }
  }
  return plan;
}

}  // namespace apr
