// A model: configuration resolved, tensors bound to slots, graph built. Everything an executor needs,
// and everything a converter or a comparer wants to know about where it came from.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "format/model_file.h"
#include "model/architecture.h"
#include "model/config.h"
#include "model/slot.h"

namespace apr {

// One slot as a file holds it.
struct BoundSlot {
  WeightRef weight;
  const TensorInfo* tensor = nullptr;  // in the file
  std::vector<const TensorInfo*> more;  // further ones that the slot was put together from
  const TensorRule* rule = nullptr;    // how it got here
};

// The slots that a file fills, and what is left over. Does not need a complete model.
struct SlotTable {
  std::map<SlotKey, BoundSlot> slots;
  std::vector<std::string> unclaimed;  // tensors of the file that no rule names
};

// Binds what is there. Weights whose bytes have to be computed are not held (graph/weight.h). Throws kModelLoad for a
// tensor whose shape contradicts the configuration.
SlotTable BindSlots(const ModelFile& file, const Architecture& architecture, const ModelConfig& config);
// What a slot of rope factors must hold by a rule of the configuration: longrope's factors, or the divisors that follow
// from llama3's; empty where none is in force. A tensor of such factors agrees if none is farther off than 1e-5 of itself:
// converters compute them in f32.
std::vector<double> RopeFactorsOf(const RopeTableAttributes& table, Slot slot);
bool SameRopeFactors(std::span<const double> rule, std::span<const float> tensor);

// Per-frequency factors that a GGUF keeps as tensors (llama.cpp: rope_freqs, rope_factors_*) become part
// of the configuration. Throws kModelLoad.
void ApplyRopeFactorTensors(const SlotTable& slots, ModelConfig& config);
// A tensor that a rule names and that could not become its slots.
struct BindProblem {
  const TensorInfo* tensor = nullptr;
  const TensorRule* rule = nullptr;
  std::vector<SlotKey> keys;
  std::string what;
};
// The same, with problems collected instead of thrown.
SlotTable BindSlots(const ModelFile& file, const Architecture& architecture, const ModelConfig& config,
                    std::vector<BindProblem>& problems);

// Canonical Hugging Face name of a slot; for a part of a fused tensor "name[q]".
std::string HfName(const Architecture& architecture, const SlotKey& key);

class Model {
 public:
  // Throws kModelLoad (unknown architecture, missing tensor, wrong shape), kInvalidFormat.
  // Packed weights, and those whose layout has to change, are computed when an executor, or who writes them, holds them.
  static std::shared_ptr<const Model> Load(std::shared_ptr<const ModelFile> file);
  static std::shared_ptr<const Model> Load(const std::string& path) { return Load(ModelFile::Open(path)); }

  const ModelFile& file() const { return *file_; }
  const std::shared_ptr<const ModelFile>& shared_file() const { return file_; }
  const ModelConfig& config() const { return config_; }
  const Architecture& architecture() const { return *architecture_; }
  const SlotTable& slots() const { return slots_; }
  std::shared_ptr<const BoundGraph> bound() const { return bound_; }
  const Graph& graph() const { return bound_->graph; }
  // Which slot a weight of the graph is.
  const std::vector<SlotKey>& graph_slots() const { return graph_slots_; }

  // Tensors of the file that the computation does not use, and configuration keys that nothing read.
  const std::vector<std::string>& unread_tensors() const { return unread_tensors_; }
  const std::vector<std::string>& unread_keys() const { return config_.unread_keys; }
  uint64_t num_parameters() const;  // elements of all tensors that are used

 private:
  std::shared_ptr<const ModelFile> file_;
  ModelConfig config_;
  const Architecture* architecture_ = nullptr;
  SlotTable slots_;
  std::shared_ptr<const BoundGraph> bound_;
  std::vector<SlotKey> graph_slots_;
  std::vector<std::string> unread_tensors_;
};

}  // namespace apr
