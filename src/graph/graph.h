// The computation of a model as data: nodes (op + attributes), values between them, weight slots,
// and stages: the names under which values are traced and compared. Built once per model; executors,
// training and the cause search walk the same graph.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "graph/attributes.h"
#include "tensor/tensor.h"

namespace apr {

class Op;

using ValueId = int;
using WeightId = int;

// How many elements a value has for T tokens.
enum class ValueKind {
  kTokens,      // [T, width]
  kLogitRows,   // [R, width]: the rows for which logits were asked
  kScores,      // [width = heads, T, S]: attention matrices, one block per sequence, S = keys so far
};

struct Value {
  ValueKind kind = ValueKind::kTokens;
  int64_t width = 0;
  std::string name;   // unique, for printing
  int producer = -1;  // node index; -1: given from outside (token ids; inputs of a sub-graph)
};

// A parameter that the graph needs; Model binds it to bytes of a file.
struct WeightSlot {
  std::string name;   // canonical (Hugging Face) name, or a derived one for parts of fused tensors
  Shape shape;        // [out, in], or [n]
};

struct Node {
  const Op* op = nullptr;                        // static, never owned
  std::shared_ptr<const Attributes> attributes;
  std::vector<ValueId> inputs;
  std::vector<WeightId> weights;
  std::vector<ValueId> outputs;                  // outputs[0] always; further ones optional taps
  int layer = -1;                                // -1: belongs to no layer
  std::string name;                              // "layer-3/q_proj"

  template <typename Struct>
  const Struct& As() const {
    return static_cast<const AttributesOf<Struct>&>(*attributes).value;
  }
};

// A traced quantity: one or several values side by side ([T, w1 + w2 + ...]).
struct Stage {
  std::string name;  // "q_post_rope"
  int layer = -1;    // -1: whole model
  std::vector<ValueId> parts;

  std::string Path() const;  // "layer-3/q_post_rope", "final_norm"
};

struct Graph {
  std::vector<Value> values;       // values[0] is the token ids (width 1)
  std::vector<WeightSlot> weights;
  std::vector<Node> nodes;         // in an order in which they can be run
  std::vector<Stage> stages;       // in causal order
  ValueId logits = -1;
  int cache_slots = 0;             // attention nodes that keep keys and values

  static constexpr ValueId kTokenIds = 0;

  const Stage* FindStage(std::string_view name, int layer) const;
  // Throws Error(kInternal) if an id is out of range, a value is used before it is made, or a
  // width contradicts the op's shape rule.
  void Verify() const;

  std::string ToText() const;  // one line a node
  std::string ToDot() const;   // Graphviz
};

// Adds nodes one by one, inferring widths by the ops' shape rules.
class GraphBuilder {
 public:
  GraphBuilder();

  WeightId Weight(std::string name, Shape shape);
  // A value given from outside (of a sub-graph): [T, width].
  ValueId Input(std::string name, int64_t width);
  // Returns all outputs of the new node.
  std::vector<ValueId> AddNode(Node node);
  // The common case: one output.
  template <typename Struct>
  ValueId Add(const Op& op, std::string name, int layer, Struct attributes, std::vector<ValueId> inputs,
              std::vector<WeightId> weights = {}) {
    return AddNode({.op = &op,
                    .attributes = std::make_shared<AttributesOf<Struct>>(std::move(attributes)),
                    .inputs = std::move(inputs),
                    .weights = std::move(weights),
                    .layer = layer,
                    .name = std::move(name)})
        .front();
  }
  void AddStage(std::string name, int layer, std::vector<ValueId> parts);
  int NewCacheSlot() { return graph_.cache_slots++; }
  const Value& value(ValueId id) const { return graph_.values[static_cast<size_t>(id)]; }

  Graph Finish(ValueId logits);

 private:
  Graph graph_;
};

}  // namespace apr
