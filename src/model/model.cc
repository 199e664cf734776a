// See model.h.
#include "model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/error.h"
#include "format/packed_weights.h"
#include "model/builder.h"
#include "model/inventory.h"
#include "model/resolve.h"
#include "model/transform.h"

namespace apr {
namespace {

class Loader {
 public:
  Loader(const ModelFile& file, const Architecture& arch, const SlotTable& slots) : file_(file), arch_(arch), slots_(slots) {}

  std::vector<WeightRef> Weights(const BuiltGraph& built) {
    std::vector<WeightRef> out;
    for (const SlotKey& key : built.slots) {
      const auto it = slots_.slots.find(key);
      if (it == slots_.slots.end()) Missing(key);
      used_.insert(it->second.tensor);
      used_.insert(it->second.more.begin(), it->second.more.end());
      out.push_back(it->second.weight);
    }
    return out;
  }

  // What the file holds and the graph did not ask for.
  std::vector<std::string> Unread() {
    for (const auto& [key, slot] : slots_.slots) {
      if (IsRopeFactors(key.slot)) used_.insert(slot.tensor);
    }
    std::vector<std::string> out;
    for (const TensorInfo& info : file_.tensors()) {
      if (used_.count(&info) == 0 && !IsDerivedBuffer(info.name)) out.push_back(info.name);
    }
    return out;
  }

 private:
  [[noreturn]] void Missing(const SlotKey& key) const {
    const std::string hf = HfName(arch_, key);
    std::string name = hf;
    if (file_.container() == Container::kGguf) {
      for (const TensorRule& rule : arch_.gguf_names) {
        if (std::find(rule.slots.begin(), rule.slots.end(), key.slot) != rule.slots.end()) {
          name = ExpandName(rule.name, key.layer, key.expert);
        }
      }
    }
    throw Error(ErrorCode::kModelLoad, fmt::format("tensor {} is missing ({})", name, ToString(key)),
                {.file = file_.path(), .tensor = hf});
  }

  const ModelFile& file_;
  const Architecture& arch_;
  const SlotTable& slots_;
  std::set<const TensorInfo*> used_;
};

}  // namespace

std::vector<double> RopeFactorsOf(const RopeTableAttributes& table, Slot slot) {
  if (slot == Slot::kRopeFactorsShort || slot == Slot::kRopeFactorsLong) {
    if (table.scaling != "longrope") return {};
    return slot == Slot::kRopeFactorsShort ? table.factors : table.long_factors;
  }
  if (slot != Slot::kRopeFactors) return {};
  if (table.scaling == "factors") return table.factors;
  if (table.scaling != "llama3") return {};
  RopeTableAttributes plain = table;
  plain.scaling = "none";
  std::vector<double> out = InverseFrequencies(plain, 1);
  const std::vector<double> scaled = InverseFrequencies(table, 1);
  for (size_t i = 0; i < out.size(); ++i) out[i] /= scaled[i];
  return out;
}

bool SameRopeFactors(std::span<const double> rule, std::span<const float> tensor) {
  return std::ranges::equal(rule, tensor, [](double x, float y) { return std::abs(y / x - 1) < 1e-5; });
}

void ApplyRopeFactorTensors(const SlotTable& slots, ModelConfig& config) {
  const auto read = [&](Slot slot) -> std::vector<float> {
    const auto it = slots.slots.find({slot, -1, -1});
    if (it == slots.slots.end()) return {};
    std::vector<float> values = ReadSlot(it->second.weight);
    for (const float v : values) {
      if (!(v > 0)) throw Error(ErrorCode::kModelLoad, "rope factors must be positive", {.tensor = it->second.tensor->name});
    }
    return values;
  };
  const auto set = [](const std::vector<float>& values, std::vector<double>& factors) { factors.assign(values.begin(), values.end()); };
  if (config.ropes.empty()) return;
  RopeTableAttributes& table = config.ropes[0].table;
  if (const std::vector<float> factors = read(Slot::kRopeFactors); !factors.empty()) {
    // A file that also says the rule: the tensor must be what follows from it.
    if (table.scaling == "llama3") {
      if (SameRopeFactors(RopeFactorsOf(table, Slot::kRopeFactors), factors)) return;
      throw Error(ErrorCode::kModelLoad, "these factors contradict the rope scaling of the metadata", {.tensor = "rope_freqs.weight"});
    }
    if (table.scaling != "none") {
      throw Error(ErrorCode::kModelLoad, "rope_freqs together with rope scaling '" + table.scaling + "' is not supported");
    }
    table.scaling = "factors";
    set(factors, table.factors);
    config.sources.push_back({"rope_scaling", "factors", "gguf: tensor rope_freqs.weight"});
  }
  if (table.scaling != "longrope" || !table.factors.empty()) return;
  set(read(Slot::kRopeFactorsShort), table.factors);
  set(read(Slot::kRopeFactorsLong), table.long_factors);
}

std::shared_ptr<const Model> Model::Load(std::shared_ptr<const ModelFile> file) {
  file = UnpackWeights(std::move(file));
  auto model = std::make_shared<Model>();
  ResolvedConfig resolved = ResolveConfig(*file);
  model->file_ = file;
  model->config_ = std::move(resolved.config);
  model->architecture_ = resolved.architecture;
  model->slots_ = BindSlots(*file, *resolved.architecture, model->config_);
  ApplyRopeFactorTensors(model->slots_, model->config_);
  BuiltGraph built = BuildGraph(model->config_, [&](const SlotKey& key) { return HfName(*resolved.architecture, key); });
  Loader loader(*file, *resolved.architecture, model->slots_);
  auto bound = std::make_shared<BoundGraph>();
  bound->weights = loader.Weights(built);
  bound->graph = std::move(built.graph);
  bound->keep_alive = file;
  model->bound_ = std::move(bound);
  model->graph_slots_ = std::move(built.slots);
  model->unread_tensors_ = loader.Unread();
  return model;
}

uint64_t Model::num_parameters() const {
  std::set<const TensorInfo*> seen;
  uint64_t total = 0;
  for (const SlotKey& key : graph_slots_) {
    const TensorInfo* tensor = slots_.slots.at(key).tensor;
    if (seen.insert(tensor).second) total += static_cast<uint64_t>(tensor->shape.num_elements());
    for (const TensorInfo* more : slots_.slots.at(key).more) total += static_cast<uint64_t>(more->shape.num_elements());
  }
  return total;
}

}  // namespace apr
