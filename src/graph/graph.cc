// See graph.h.
#include "graph/graph.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "graph/op.h"

namespace apr {
namespace {

[[noreturn]] void Broken(const Node& node, const std::string& what) {
  throw Error(ErrorCode::kInternal, fmt::format("graph node {} ({}): {}", node.name, node.op->name(), what));
}

const char* KindName(ValueKind kind) {
  switch (kind) {
    case ValueKind::kTokens: return "T";
    case ValueKind::kLogitRows: return "R";
    case ValueKind::kScores: return "heads";
  }
  return "?";
}

std::string ValueText(const Graph& graph, ValueId id) {
  const Value& value = graph.values[static_cast<size_t>(id)];
  if (value.kind == ValueKind::kScores) return fmt::format("{}[{}, T, S]", value.name, value.width);
  return fmt::format("{}[{}, {}]", value.name, KindName(value.kind), value.width);
}

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string Stage::Path() const {
  return layer < 0 ? name : fmt::format("layer-{}/{}", layer, name);
}

const Stage* Graph::FindStage(std::string_view name, int layer) const {
  for (const Stage& stage : stages) {
    if (stage.layer == layer && stage.name == name) return &stage;
  }
  return nullptr;
}

void Graph::Verify() const {
  std::vector<bool> made(values.size(), false);
  for (size_t v = 0; v < values.size(); ++v) made[v] = values[v].producer < 0;
  for (const Node& node : nodes) {
    for (const ValueId id : node.inputs) {
      if (id < 0 || static_cast<size_t>(id) >= values.size()) Broken(node, "input id out of range");
      if (!made[static_cast<size_t>(id)]) Broken(node, "uses a value before it is made");
    }
    for (const WeightId id : node.weights) {
      if (id < 0 || static_cast<size_t>(id) >= weights.size()) Broken(node, "weight id out of range");
    }
    const std::vector<Value> inferred = node.op->Infer(node, *this);
    if (inferred.size() != node.outputs.size()) Broken(node, "wrong number of outputs");
    for (size_t i = 0; i < inferred.size(); ++i) {
      const auto id = static_cast<size_t>(node.outputs[i]);
      if (made[id]) Broken(node, "makes a value twice");
      if (values[id].width != inferred[i].width || values[id].kind != inferred[i].kind) {
        Broken(node, "width contradicts the shape rule");
      }
      made[id] = true;
    }
  }
  if (logits < 0 || !made[static_cast<size_t>(logits)]) throw Error(ErrorCode::kInternal, "graph makes no logits");
}

std::string Graph::ToText() const {
  std::string out;
  for (const Node& node : nodes) {
    std::string left;
    for (const ValueId id : node.outputs) left += (left.empty() ? "" : ", ") + ValueText(*this, id);
    std::string right;
    for (const ValueId id : node.inputs) {
      right += (right.empty() ? "" : ", ") + values[static_cast<size_t>(id)].name;
    }
    for (const WeightId id : node.weights) {
      const WeightSlot& slot = weights[static_cast<size_t>(id)];
      right += fmt::format("{}{}{}", right.empty() ? "" : ", ", slot.name, slot.shape.ToString());
    }
    const std::string attributes = node.attributes->ToString();
    out += fmt::format("{} = {}({}){}{}\n", left, node.op->name(), right, attributes.empty() ? "" : " ", attributes);
  }
  return out;
}

std::string Graph::ToDot() const {
  std::string out = "digraph model {\n  rankdir=TB;\n  node [shape=box, fontname=\"monospace\"];\n  n_ids [label=\"token ids\"];\n";
  const auto source = [&](ValueId id) {
    const int producer = values[static_cast<size_t>(id)].producer;
    return producer < 0 ? std::string("n_ids") : fmt::format("n{}", producer);
  };
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    out += fmt::format("  n{} [label=\"{}\\n{}\\n{}\"];\n", i, Escaped(node.name), node.op->name(),
                       Escaped(node.attributes->ToString()));
    for (const ValueId id : node.inputs) {
      out += fmt::format("  {} -> n{} [label=\"{}\"];\n", source(id), i, Escaped(ValueText(*this, id)));
    }
  }
  return out + "}\n";
}

GraphBuilder::GraphBuilder() {
  graph_.values.push_back({.kind = ValueKind::kTokens, .width = 1, .name = "token_ids"});
}

WeightId GraphBuilder::Weight(std::string name, Shape shape) {
  graph_.weights.push_back({std::move(name), shape});
  return static_cast<WeightId>(graph_.weights.size()) - 1;
}

ValueId GraphBuilder::Input(std::string name, int64_t width) {
  graph_.values.push_back({.kind = ValueKind::kTokens, .width = width, .name = std::move(name)});
  return static_cast<ValueId>(graph_.values.size()) - 1;
}

std::vector<ValueId> GraphBuilder::AddNode(Node node) {
  APR_CHECK(node.op != nullptr && node.attributes != nullptr);
  const std::vector<Value> outputs = node.op->Infer(node, graph_);
  const int index = static_cast<int>(graph_.nodes.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    Value value = outputs[i];
    value.producer = index;
    value.name = value.name.empty() ? node.name : node.name + "." + value.name;
    node.outputs.push_back(static_cast<ValueId>(graph_.values.size()));
    graph_.values.push_back(std::move(value));
  }
  graph_.nodes.push_back(std::move(node));
  return graph_.nodes.back().outputs;
}

void GraphBuilder::AddStage(std::string name, int layer, std::vector<ValueId> parts) {
  graph_.stages.push_back({std::move(name), layer, std::move(parts)});
}

Graph GraphBuilder::Finish(ValueId logits) {
  graph_.logits = logits;
  graph_.Verify();
  return std::move(graph_);
}

}  // namespace apr
