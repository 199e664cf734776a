// Which buffer each value of a graph lives in: two values share one when the first is dead before the
// second is made.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace apr {

struct MemoryPlan {
  std::vector<int> buffer_of;       // per value; -1: no buffer (token ids, attention matrices)
  std::vector<int64_t> widths;      // per buffer: elements per row
};

MemoryPlan PlanMemory(const Graph& graph);

}  // namespace apr
