// A graph for walking a recorded run: weights may be absent, and a variation may change what nodes do.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compare/bisect/number_format.h"
#include "exec/executor.h"
#include "model/model.h"

namespace apr::bisect {

struct WalkModel {
  ModelConfig config;
  const Architecture* architecture = nullptr;
  BoundGraph bound;                // of an absent weight the view is empty
  std::vector<SlotKey> slots;      // of bound.graph.weights
  std::vector<bool> present;       // likewise
  std::vector<std::shared_ptr<const void>> held;  // weights whose bytes are computed stay there
  std::map<ValueId, std::vector<std::pair<int, int>>> users;  // stages (index, part) that hold a value, ascending
};

// Builds the graph of `config` and binds what `slots` has in the right shape. Throws kModelLoad where no graph can
// be built. `keep_alive` owns the mapped bytes.
std::shared_ptr<const WalkModel> BindWalkModel(const ModelConfig& config, const Architecture& architecture, const SlotTable& slots,
                                               std::shared_ptr<const void> keep_alive);
// The same graph with weights of its own.
std::shared_ptr<const WalkModel> WithWeights(const WalkModel& model, const std::map<SlotKey, WeightRef>& replaced);

// What a node is given and what it made, for rules that change it.
struct NodeCall {
  const Node& node;
  const Graph& graph;
  std::span<const std::vector<double>> inputs;
  int64_t rows = 0;
};
// Changes `output` (of the node's first output) and returns true, or leaves it.
using NodeRule = std::function<bool(const NodeCall&, std::vector<double>& output)>;

// How attention may be other than the graph says.
struct AttentionTwist {
  bool interleaved_kv = false;     // query head h reads kv head h % kv_heads instead of h / (heads / kv_heads)
  int kv_rotation = 0;             // ... or the right one plus this
  std::optional<int64_t> mask_shift;  // keys up to position + shift are seen; unset: up to position
  bool no_mask = false;
  // What one layer's attention reads instead of its keys, values.
  int replaced_layer = -1;
  std::shared_ptr<const std::vector<double>> keys, values;
};

// Steps of the computed nodes that are carried out in a narrower type than they should be.
struct NarrowSteps {
  std::optional<FloatType> inputs, weights, outputs;
  int64_t int8_block = 0;          // > 0: inputs of products as int8, one scale for so many elements; < 0: for a row
};

// A change of the computation under trial.
struct Variation {
  std::shared_ptr<const WalkModel> model;
  int64_t rope_shift = 0;          // added to the positions that rope sees
  int64_t embedding_shift = 0;     // ... that learned position embeddings see
  AttentionTwist attention;
  NarrowSteps narrow;
  std::vector<NodeRule> rules;
};

}  // namespace apr::bisect
