// See infer.h.
#include "op/infer.h"

#include <fmt/format.h>

#include "base/error.h"
#include "graph/op.h"

namespace apr {

void ShapeError(const Node& node, const std::string& what) {
  throw Error(ErrorCode::kModelLoad, fmt::format("{} ({}): {}", node.name, node.op->name(), what));
}

const Value& InputOf(const Node& node, const Graph& graph, size_t index) {
  if (index >= node.inputs.size()) ShapeError(node, "an input is missing");
  return graph.values[static_cast<size_t>(node.inputs[index])];
}

const Shape& WeightShapeOf(const Node& node, const Graph& graph, size_t index) {
  if (index >= node.weights.size()) ShapeError(node, "a weight is missing");
  return graph.weights[static_cast<size_t>(node.weights[index])].shape;
}

void RequireWeight(const Node& node, const Graph& graph, size_t index, const Shape& shape) {
  const Shape& actual = WeightShapeOf(node, graph, index);
  if (actual == shape) return;
  ShapeError(node, fmt::format("weight {} is {}, expected {}",
                               graph.weights[static_cast<size_t>(node.weights[index])].name,
                               actual.ToString(), shape.ToString()));
}

}  // namespace apr
