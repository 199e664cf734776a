// BindSlots and HfName of model.h: tensors of a file to slots of the model.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "model/model.h"
#include "model/transform.h"

namespace apr {
namespace {

bool UsesLayer(const TensorRule& rule) { return rule.name.find("{L}") != std::string_view::npos; }
bool UsesExpert(const TensorRule& rule) { return rule.name.find("{E}") != std::string_view::npos; }

class Binder {
 public:
  // `problems` null: they are thrown.
  Binder(const ModelFile& file, const Architecture& arch, const ModelConfig& config, std::vector<BindProblem>* problems)
      : problems_(problems), file_(file), config_(config), rules_(file.container() == Container::kGguf ? arch.gguf_names : arch.hf) {}

  SlotTable Run() {
    for (const TensorRule& rule : rules_) {
      const int layers = UsesLayer(rule) ? static_cast<int>(config_.num_layers) : 1;
      const int experts = UsesExpert(rule) ? static_cast<int>(std::max<int64_t>(config_.moe.experts, 0)) : 1;
      for (int layer = 0; layer < layers; ++layer) {
        for (int expert = 0; expert < experts; ++expert) {
          Bind(rule, UsesLayer(rule) ? layer : -1, UsesExpert(rule) ? expert : -1);
        }
      }
    }
    for (const TensorInfo& info : file_.tensors()) {
      if (claimed_.count(&info) == 0) out_.unclaimed.push_back(info.name);
    }
    return std::move(out_);
  }

 private:
  void Bind(const TensorRule& rule, int layer, int expert) {
    const TensorInfo* info = file_.Find(ExpandName(rule.name, layer, expert));
    if (info == nullptr) return;
    claimed_.insert(info);
    std::vector<SlotKey> keys;
    for (const Slot slot : rule.slots) keys.push_back({slot, layer, expert});
    try {
      std::map<SlotKey, WeightRef> parts = ApplyTransform(rule.transform, config_, keys, file_.View(*info));
      for (auto& [key, weight] : parts) {
        weight.source = info->name;
        out_.slots[key] = {std::move(weight), info, &rule};
      }
    } catch (const Error& e) {
      if (problems_ != nullptr) {
        problems_->push_back({info, &rule, std::move(keys), e.message()});
        return;
      }
      throw e.With({.file = file_.files()[static_cast<size_t>(info->file)]->path(), .tensor = info->name, .offset = info->offset});
    }
  }

  std::vector<BindProblem>* problems_;
  const ModelFile& file_;
  const ModelConfig& config_;
  const std::vector<TensorRule>& rules_;
  std::set<const TensorInfo*> claimed_;
  SlotTable out_;
};

}  // namespace

SlotTable BindSlots(const ModelFile& file, const Architecture& arch, const ModelConfig& config) {
  return Binder(file, arch, config, nullptr).Run();
}

SlotTable BindSlots(const ModelFile& file, const Architecture& arch, const ModelConfig& config, std::vector<BindProblem>& problems) {
  return Binder(file, arch, config, &problems).Run();
}

std::string HfName(const Architecture& arch, const SlotKey& key) {
  for (const TensorRule& rule : arch.hf) {
    if (std::find(rule.slots.begin(), rule.slots.end(), key.slot) == rule.slots.end()) continue;
    std::string name = ExpandName(rule.name, key.layer, key.expert);
    const bool stacked = !UsesExpert(rule) && key.expert >= 0;
    if (rule.slots.size() > 1) name += fmt::format("[{}]", SlotName(key.slot));
    if (stacked) name += fmt::format("[{}]", key.expert);
    return name;
  }
  return ToString(key);
}

}  // namespace apr
