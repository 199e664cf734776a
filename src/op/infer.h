// Shared checks for the ops' shape rules.
#pragma once

#include <string>

#include "graph/graph.h"

namespace apr {

// Throws Error(kModelLoad) naming the node.
[[noreturn]] void ShapeError(const Node& node, const std::string& what);

const Value& InputOf(const Node& node, const Graph& graph, size_t index);
const Shape& WeightShapeOf(const Node& node, const Graph& graph, size_t index);
// Throws unless the weight has exactly this shape.
void RequireWeight(const Node& node, const Graph& graph, size_t index, const Shape& shape);

}  // namespace apr
