// See weight_effect.h.
#include "compare/bisect/weight_effect.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "model/builder.h"

namespace apr::bisect {
namespace {

uint64_t HashOf(std::span<const std::byte> bytes) {
  return std::hash<std::string_view>{}(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// A hash for each row of each stage.
class HashSink final : public TapSink {
 public:
  HashSink(const Graph& graph, std::vector<std::vector<uint64_t>>& out) : graph_(graph), out_(out) {}
  bool Wants(const Stage&) const override { return true; }
  void Take(const Stage& stage, const TensorView& data) override {
    const auto index = static_cast<size_t>(&stage - graph_.stages.data());
    std::vector<uint64_t>& rows = out_[index];
    const uint64_t stride = data.row_bytes();
    for (int64_t r = 0; r < data.rows(); ++r) rows.push_back(HashOf(data.bytes.subspan(static_cast<size_t>(r) * stride, stride)));
  }

 private:
  const Graph& graph_;
  std::vector<std::vector<uint64_t>>& out_;
};

FeltAt At(const Stage& stage) {
  FeltAt out;
  if (stage.layer >= 0) out.layer = stage.layer;
  out.stage = stage.name;
  return out;
}

}  // namespace

WeightEffect::WeightEffect(const ModelConfig& config, const Architecture& architecture, const SlotTable& slots,
                           std::shared_ptr<const void> keep_alive, int threads)
    : threads_(threads) {
  try {
    BuiltGraph built = BuildGraph(config, [&](const SlotKey& key) { return HfName(architecture, key); });
    auto bound = std::make_shared<BoundGraph>();
    bound->graph = std::move(built.graph);
    bound->keep_alive = std::move(keep_alive);
    complete_ = true;
    for (size_t i = 0; i < built.slots.size(); ++i) {
      ids_[built.slots[i]] = static_cast<WeightId>(i);
      const auto it = slots.slots.find(built.slots[i]);
      complete_ = complete_ && it != slots.slots.end();
      bound->weights.push_back(it != slots.slots.end() ? it->second.weight : WeightRef{});
    }
    bound_ = std::move(bound);
  } catch (const Error&) {
    complete_ = false;
  }
}

std::optional<FeltAt> WeightEffect::Reader(const SlotKey& key) const {
  const auto id = ids_.find(key);
  if (bound_ == nullptr || id == ids_.end()) return std::nullopt;
  const Graph& graph = bound_->graph;
  std::vector<bool> touched(graph.values.size());
  for (const Node& node : graph.nodes) {
    const bool reads = std::find(node.weights.begin(), node.weights.end(), id->second) != node.weights.end();
    const bool fed = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return touched[static_cast<size_t>(v)]; });
    if (!reads && !fed) continue;
    for (const ValueId v : node.outputs) touched[static_cast<size_t>(v)] = true;
  }
  for (const Stage& stage : graph.stages) {
    if (std::any_of(stage.parts.begin(), stage.parts.end(), [&](ValueId v) { return touched[static_cast<size_t>(v)]; })) return At(stage);
  }
  return std::nullopt;
}

std::pair<int64_t, int64_t> WeightEffect::Order(const SlotKey& key) const {
  constexpr int64_t kLast = int64_t{1} << 40;
  const std::optional<FeltAt> felt = Reader(key);
  if (!felt) return {key.layer >= 0 ? key.layer : kLast, kLast};
  const std::vector<Stage>& stages = bound_->graph.stages;
  const auto it = std::find_if(stages.begin(), stages.end(), [&](const Stage& s) { return s.name == felt->stage && s.layer == felt->layer.value_or(-1); });
  return {it - stages.begin(), static_cast<int64_t>(key.slot)};
}

WeightEffect::Hashes WeightEffect::HashesOf(const std::shared_ptr<const BoundGraph>& model, std::span<const int32_t> ids) const {
  Hashes out(model->graph.stages.size());
  HashSink sink(model->graph, out);
  const auto executor = Executor::Create(ExecutorKind::kCpu, model, {.threads = threads_, .precision = Precision::kExact});
  const Chunk chunk{executor->NewSequence(), ids, static_cast<int64_t>(ids.size())};
  executor->Forward({&chunk, 1}, &sink);
  return out;
}

std::optional<FeltAt> WeightEffect::Run(const std::map<SlotKey, WeightRef>& replaced, std::span<const int32_t> ids) {
  if (!complete_ || ids.empty()) return std::nullopt;
  try {
    if (!std::ranges::equal(healthy_ids_, ids)) {
      healthy_ = HashesOf(bound_, ids);
      healthy_ids_.assign(ids.begin(), ids.end());
    }
    auto changed = std::make_shared<BoundGraph>(*bound_);
    for (const auto& [key, weight] : replaced) {
      const auto id = ids_.find(key);
      if (id != ids_.end()) changed->weights[static_cast<size_t>(id->second)] = weight;
    }
    const Hashes other = HashesOf(changed, ids);
    for (size_t s = 0; s < other.size(); ++s) {
      if (other[s] == healthy_[s]) continue;
      FeltAt out = At(changed->graph.stages[s]);
      const auto tokens = static_cast<int64_t>(ids.size());
      for (size_t r = 0; r < other[s].size(); ++r) {
        if (other[s][r] == healthy_[s][r]) continue;
        out.position = static_cast<int64_t>(r) % tokens;   // attention matrices: [heads, T, T]
        break;
      }
      return out;
    }
  } catch (const Error&) {
    // A weight that no kernel accepts: by data flow then.
  }
  return std::nullopt;
}

}  // namespace apr::bisect
