// Where a changed weight is first felt: the same tokens are run with and without the change, and the first
// stage whose bits differ is the answer.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "exec/executor.h"
#include "model/model.h"

namespace apr::bisect {

struct FeltAt {
  std::optional<int64_t> layer;      // unset: whole model
  std::string stage;
  std::optional<int64_t> position;   // first token that differs
};

class WeightEffect {
 public:
  // `slots` must outlive this. A model that cannot be built (slots missing) answers by data flow alone.
  WeightEffect(const ModelConfig& config, const Architecture& architecture, const SlotTable& slots,
               std::shared_ptr<const void> keep_alive, int threads);

  // The first stage that what reads the slot feeds, by data flow. nullopt: nothing of the graph reads it.
  std::optional<FeltAt> Reader(const SlotKey& key) const;
  // With the replaced weights in place: nullopt if no stage changes on `ids`, or if the model cannot run.
  std::optional<FeltAt> Run(const std::map<SlotKey, WeightRef>& replaced, std::span<const int32_t> ids);
  // Position in the data flow, to order slots by: layer, then the stage that reads it.
  std::pair<int64_t, int64_t> Order(const SlotKey& key) const;
  bool Reads(const SlotKey& key) const { return ids_.count(key) > 0; }

 private:
  using Hashes = std::vector<std::vector<uint64_t>>;   // of each stage, of each row
  Hashes HashesOf(const std::shared_ptr<const BoundGraph>& model, std::span<const int32_t> ids) const;

  std::shared_ptr<BoundGraph> bound_;                  // null: cannot be built
  bool complete_ = false;
  std::map<SlotKey, WeightId> ids_;
  int threads_;
  std::vector<int32_t> healthy_ids_;
  Hashes healthy_;
};

}  // namespace apr::bisect
