// BindSlots and HfName of model.h: tensors of a file to slots of the model.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "model/inventory.h"
#include "model/model.h"
#include "model/transform.h"
#include "quant/quant.h"

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
      if (rule.transform == Transform::kHeadByHead) {
        for (int layer = 0; layer < layers; ++layer) BindHeads(rule, {rule.slots[0], layer, -1});
        continue;
      }
      const int experts = UsesExpert(rule) ? static_cast<int>(std::max<int64_t>(config_.moe.experts, 0)) : 1;
      for (int layer = 0; layer < layers; ++layer) {
        for (int expert = 0; expert < experts; ++expert) {
          Bind(rule, UsesLayer(rule) ? layer : -1, UsesExpert(rule) ? expert : -1);
        }
      }
    }
    for (int layer = 0; layer < static_cast<int>(config_.num_layers) && config_.latent.kv_rank > 0; ++layer) JoinLatent(layer);
    for (const TensorInfo& info : file_.tensors()) {
      if (claimed_.count(&info) == 0) out_.unclaimed.push_back(info.name);
    }
    return std::move(out_);
  }

 private:
  void Bind(const TensorRule& rule, int layer, int expert) {
    const TensorInfo* info = FindTensor(file_, ExpandName(rule.name, layer, expert));
    if (info == nullptr) return;
    claimed_.insert(info);
    std::vector<SlotKey> keys;
    for (const Slot slot : rule.slots) keys.push_back({slot, layer, expert});
    try {
      std::map<SlotKey, WeightRef> parts = ApplyTransform(rule.transform, config_, keys, file_, *info);
      for (auto& [key, weight] : parts) {
        weight.source = info->name;
        out_.slots[key] = {std::move(weight), info, {}, &rule};
      }
    } catch (const Error& e) {
      if (problems_ != nullptr) {
        problems_->push_back({info, &rule, std::move(keys), e.message()});
        return;
      }
      throw e.With({.file = file_.files()[static_cast<size_t>(info->file)]->path(), .tensor = info->name, .offset = info->offset});
    }
  }

  // One tensor for each head, put together; nothing if one is missing.
  void BindHeads(const TensorRule& rule, const SlotKey& key) {
    const int64_t heads = HeadsOf(config_, key.slot);
    std::vector<const TensorInfo*> parts;
    for (int64_t h = 0; h < heads; ++h) {
      const TensorInfo* info = FindTensor(file_, ExpandName(rule.name, key.layer, static_cast<int>(h)));
      if (info == nullptr) return;
      if (info->shape != Shape{config_.head_dim} || info->dtype != (h > 0 ? parts[0]->dtype : info->dtype)) {
        throw Error(ErrorCode::kModelLoad, fmt::format("a head's norm needs {} values of one type", config_.head_dim),
                    {.file = file_.path(), .tensor = info->name, .offset = info->offset});
      }
      parts.push_back(info);
    }
    auto joined = std::make_shared<Tensor>(parts[0]->dtype, Shape{heads, config_.head_dim});
    std::byte* to = joined->mutable_bytes().data();
    for (const TensorInfo* info : parts) {
      const Bytes bytes = file_.View(*info).bytes;
      to = std::copy(bytes.begin(), bytes.end(), to);
      claimed_.insert(info);
    }
    WeightRef weight;
    weight.owned = joined;
    weight.view = joined->view();
    weight.source = parts[0]->name;
    out_.slots[key] = {std::move(weight), parts[0], {parts.begin() + 1, parts.end()}, &rule};
  }

  // GGUFs made for attention in the compressed space keep kv_up in two: attn_k_b, each head's part
  // transposed [H, kv_rank, nope], and attn_v_b [H, v, kv_rank] (llama.cpp conversion/deepseek.py).
  void JoinLatent(int layer) {
    static const TensorRule kRule{"blk.{L}.attn_k_b.weight", {Slot::kKvUp}};
    const SlotKey key{Slot::kKvUp, layer, -1};
    const TensorInfo* k = file_.Find(ExpandName(kRule.name, layer, -1));
    const TensorInfo* v = file_.Find(ExpandName("blk.{L}.attn_v_b.weight", layer, -1));
    if (out_.slots.count(key) > 0 || k == nullptr || v == nullptr) return;
    const int64_t heads = config_.num_heads, rank = config_.latent.kv_rank, nope = config_.latent.nope_dim, v_dim = config_.v_head_dim;
    for (const auto& [info, shape] : {std::pair{k, Shape{heads, rank, nope}}, std::pair{v, Shape{heads, v_dim, rank}}}) {
      if (info->shape != shape) {
        throw Error(ErrorCode::kModelLoad, fmt::format("needs shape {}, the file has {}", shape.ToString(), info->shape.ToString()),
                    {.file = file_.path(), .tensor = info->name, .offset = info->offset});
      }
      claimed_.insert(info);
    }
    std::vector<float> keys(static_cast<size_t>(k->shape.num_elements())), values(static_cast<size_t>(v->shape.num_elements()));
    DecodeTensor(file_.View(*k), keys);
    DecodeTensor(file_.View(*v), values);
    auto joined = std::make_shared<Tensor>(DType::kF32, SlotShape(config_, key));
    float* to = joined->f32().data();
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t row = 0; row < nope; ++row) {
        for (int64_t c = 0; c < rank; ++c) *to++ = keys[static_cast<size_t>((h * rank + c) * nope + row)];
      }
      to = std::copy_n(values.data() + h * v_dim * rank, v_dim * rank, to);
    }
    WeightRef weight;
    weight.view = joined->view();
    weight.owned = std::move(joined);
    weight.source = k->name;
    out_.slots[key] = {std::move(weight), k, {v}, &kRule};
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
    if (rule.transform == Transform::kHeadByHead) return ExpandName(rule.name, key.layer, std::max(key.expert, 0));
    std::string name = ExpandName(rule.name, key.layer, key.expert);
    const bool stacked = !UsesExpert(rule) && key.expert >= 0;
    if (rule.slots.size() > 1) name += fmt::format("[{}]", SlotName(key.slot));
    if (stacked) name += fmt::format("[{}]", key.expert);
    return name;
  }
  return ToString(key);
}

}  // namespace apr
