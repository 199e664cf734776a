// From a resolved configuration to a graph: the one place where the order of operations of a
// transformer is written down.
#pragma once

#include <functional>
#include <vector>

#include "graph/graph.h"
#include "model/config.h"
#include "model/slot.h"

namespace apr {

struct BuiltGraph {
  Graph graph;
  std::vector<SlotKey> slots;  // graph.weights[i] is slots[i]
};

// `name_of` gives the canonical tensor name of a slot.
BuiltGraph BuildGraph(const ModelConfig& config, const std::function<std::string(const SlotKey&)>& name_of);

}  // namespace apr
