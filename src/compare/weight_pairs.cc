// PairWeights of weight_diff.h.
#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/error.h"
#include "compare/weight_diff.h"
#include "format/packed_weights.h"
#include "model/model.h"
#include "model/resolve.h"
#include "model/transform.h"

namespace apr {
namespace {

struct Side {
  std::shared_ptr<const ModelFile> file;
  const Architecture* architecture = nullptr;  // null: not a model of a known architecture
  ModelConfig config;
  SlotTable slots;
};

// A file that is no model (no config, unknown architecture, shapes that contradict it) is compared by
// tensor names instead.
Side Resolve(std::shared_ptr<const ModelFile> file) {
  Side side;
  side.file = UnpackWeights(std::move(file));
  try {
    ResolvedConfig resolved = ResolveConfig(*side.file);
    side.config = std::move(resolved.config);
    side.slots = BindSlots(*side.file, *resolved.architecture, side.config);
    side.architecture = resolved.architecture;
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kModelLoad && e.code() != ErrorCode::kInvalidFormat) throw;
  }
  return side;
}

bool SameFamily(const Side& a, const Side& b) {
  if (a.architecture == nullptr || b.architecture == nullptr) return false;
  if (a.architecture == b.architecture) return true;
  // GGUF does not tell Llama from Mistral.
  return !a.architecture->gguf.empty() && a.architecture->gguf == b.architecture->gguf;
}

// Where one side ties the head and the other stores it, the embedding stands for the head.
void AddTiedHead(SlotTable& table, const SlotTable& other) {
  const SlotKey head{Slot::kHead, -1, -1};
  const SlotKey embedding{Slot::kTokenEmbedding, -1, -1};
  const auto source = table.slots.find(embedding);
  if (table.slots.count(head) > 0 || other.slots.count(head) == 0 || source == table.slots.end()) return;
  table.slots[head] = source->second;
}

// Factors of rotary frequencies that one side stores (GGUF) and that follow from the other's configuration are nothing
// that either lacks. Where they do not follow, what the configuration says is compared with them.
void MeetRopeFactors(Side& stored, Side& other, std::vector<std::unique_ptr<const TensorInfo>>& made) {
  for (const Slot slot : {Slot::kRopeFactors, Slot::kRopeFactorsShort, Slot::kRopeFactorsLong}) {
    const SlotKey key{slot, -1, -1};
    const auto it = stored.slots.slots.find(key);
    if (it == stored.slots.slots.end() || other.slots.slots.count(key) > 0 || other.config.ropes.empty()) continue;
    const std::vector<double> rule = RopeFactorsOf(other.config.ropes[0].table, slot);
    if (rule.empty()) continue;
    if (SameRopeFactors(rule, ReadSlot(it->second.weight))) {
      stored.slots.slots.erase(it);
      continue;
    }
    const Shape shape{static_cast<int64_t>(rule.size())};
    auto tensor = std::make_shared<Tensor>(DType::kF32, shape);
    std::transform(rule.begin(), rule.end(), tensor->f32().begin(), [](double v) { return static_cast<float>(v); });
    made.push_back(std::make_unique<const TensorInfo>(TensorInfo{.name = "rope_scaling of the configuration", .dtype = DType::kF32, .shape = shape}));
    other.slots.slots[key] = {{.view = tensor->view(), .owned = tensor}, made.back().get(), {}, nullptr};
  }
}

// Tables of formats give a tensor's name to several slots where models of one family differ in what stands there: a slot
// that the other side lacks is nothing missing if its tensor has its counterpart as another one.
class PairedTensors {
 public:
  PairedTensors(const SlotTable& table, const SlotTable& other) {
    for (const auto& [key, slot] : table.slots) {
      if (other.slots.count(key) > 0) rules_[slot.tensor].insert(slot.rule);
    }
  }
  // Not by the same rule: that one takes a fused tensor apart.
  bool ByAnotherRule(const BoundSlot& slot) const {
    const auto it = rules_.find(slot.tensor);
    return it != rules_.end() && it->second.count(slot.rule) == 0;
  }

 private:
  std::map<const TensorInfo*, std::set<const TensorRule*>> rules_;
};

// The Hugging Face name that a Llama-shaped GGUF name stands for, or the name itself.
std::string CanonicalName(const std::string& name) {
  const auto find_layer = [&](std::string_view pattern, int& layer) {
    const size_t at = pattern.find("{L}");
    if (at == std::string_view::npos) return name == pattern;
    if (name.compare(0, at, pattern.substr(0, at)) != 0) return false;
    const size_t end = name.find('.', at);
    if (end == std::string::npos || end == at || end - at > 6) return false;
    for (size_t i = at; i < end; ++i) {
      if (name[i] < '0' || name[i] > '9') return false;
    }
    layer = std::stoi(name.substr(at, end - at));
    return name == ExpandName(pattern, layer, -1);
  };
  for (const TensorRule& rule : GgufNames()) {
    int layer = -1;
    if (!find_layer(rule.name, layer)) continue;
    for (const TensorRule& hf : LlamaNames()) {
      if (hf.slots == rule.slots) return ExpandName(hf.name, layer, -1);
    }
  }
  return name;
}

std::map<std::string, const TensorInfo*> ByCanonicalName(const ModelFile& file) {
  std::map<std::string, const TensorInfo*> out;
  for (const TensorInfo& info : file.tensors()) out[CanonicalName(info.name)] = &info;
  return out;
}

void PairByNames(const Side& a, const Side& b, WeightPairs& out) {
  out.basis = "tensor names";
  const auto of_a = ByCanonicalName(*a.file);
  const auto of_b = ByCanonicalName(*b.file);
  for (const auto& [name, info] : of_a) {
    const auto other = of_b.find(name);
    if (other == of_b.end()) {
      out.only_a.push_back(name);
      continue;
    }
    out.pairs.push_back({name, info->name, other->second->name, TensorAsWeight(*a.file, *info), TensorAsWeight(*b.file, *other->second), {}});
  }
  for (const auto& [name, info] : of_b) {
    if (of_a.count(name) == 0) out.only_b.push_back(name);
  }
}

}  // namespace

void PairSlots(const Architecture& architecture, const ModelConfig& config, SlotTable a, SlotTable b, WeightPairs& out) {
  out.basis = "slots of " + std::string(architecture.name);
  out.config = config;
  AddTiedHead(a, b);
  AddTiedHead(b, a);
  const PairedTensors paired_a(a, b), paired_b(b, a);
  for (const auto& [key, slot] : a.slots) {
    const std::string name = HfName(architecture, key);
    const auto other = b.slots.find(key);
    if (other == b.slots.end()) {
      if (!paired_a.ByAnotherRule(slot)) out.only_a.push_back(name);
      continue;
    }
    out.pairs.push_back({name, slot.tensor->name, other->second.tensor->name, slot.weight, other->second.weight, key});
  }
  for (const auto& [key, slot] : b.slots) {
    if (a.slots.count(key) == 0 && !paired_b.ByAnotherRule(slot)) out.only_b.push_back(HfName(architecture, key));
  }
  // Tensors that no table names may still meet by name.
  for (const std::string& name : a.unclaimed) {
    if (std::find(b.unclaimed.begin(), b.unclaimed.end(), name) == b.unclaimed.end()) out.only_a.push_back(name);
  }
  for (const std::string& name : b.unclaimed) {
    if (std::find(a.unclaimed.begin(), a.unclaimed.end(), name) == a.unclaimed.end()) out.only_b.push_back(name);
  }
}

WeightPairs PairWeights(std::shared_ptr<const ModelFile> a, std::shared_ptr<const ModelFile> b) {
  Side side_a = Resolve(std::move(a));
  Side side_b = Resolve(std::move(b));
  WeightPairs out;
  out.file_a = side_a.file;
  out.file_b = side_b.file;
  std::vector<std::unique_ptr<const TensorInfo>> made;
  if (SameFamily(side_a, side_b)) {
    MeetRopeFactors(side_a, side_b, made);
    MeetRopeFactors(side_b, side_a, made);
    PairSlots(*side_a.architecture, side_a.config, std::move(side_a.slots), std::move(side_b.slots), out);
  } else {
    PairByNames(side_a, side_b, out);
  }
  std::sort(out.pairs.begin(), out.pairs.end(), [](const WeightPair& x, const WeightPair& y) { return x.name < y.name; });
  std::sort(out.only_a.begin(), out.only_a.end());
  std::sort(out.only_b.begin(), out.only_b.end());
  return out;
}

}  // namespace apr
