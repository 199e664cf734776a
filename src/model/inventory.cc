// See inventory.h.
#include "model/inventory.h"

#include <algorithm>
#include <map>
#include <set>

#include "model/builder.h"
#include "model/model.h"

namespace apr {
namespace {

bool Has(const TensorRule& rule, std::string_view placeholder) { return rule.name.find(placeholder) != std::string_view::npos; }

// [n], [1, n] and [n, 1] hold the same row.
bool SameShape(const Shape& a, const Shape& b) {
  const auto is_row = [](const Shape& s) { return s.ndim() <= 1 || (s.ndim() == 2 && (s[0] == 1 || s[1] == 1)); };
  return a == b || (a.num_elements() == b.num_elements() && is_row(a) && is_row(b) && (a.ndim() <= 1 || b.ndim() <= 1));
}

// The first part of a name, which base models do not have.
std::string_view BasePrefix(Container naming, std::string_view name) {
  if (naming == Container::kGguf) return {};
  for (const std::string_view prefix : {"model.", "transformer.", "gpt_neox."}) {
    if (name.starts_with(prefix)) return prefix;
  }
  return {};
}

class Taker {
 public:
  Taker(const ModelFile& file, const Architecture& arch, const ModelConfig& config)
      : file_(file), arch_(arch), config_(config), rules_(RulesFor(arch, file.container())) {}

  Inventory Run() {
    for (const TensorRule& rule : rules_) {
      const int layers = Has(rule, "{L}") ? static_cast<int>(config_.num_layers) : 1;
      const int64_t each = rule.transform == Transform::kHeadByHead ? HeadsOf(config_, rule.slots.front()) : config_.moe.experts;
      const int experts = Has(rule, "{E}") ? static_cast<int>(each) : 1;
      for (int layer = 0; layer < layers; ++layer) {
        for (int expert = 0; expert < experts; ++expert) {
          Look(rule, Has(rule, "{L}") ? layer : -1, Has(rule, "{E}") ? expert : -1);
        }
      }
    }
    CompareWithGraph();
    return std::move(out_);
  }

 private:
  void Look(const TensorRule& rule, int layer, int expert) {
    const TensorInfo* info = FindTensor(file_, ExpandName(rule.name, layer, expert));
    if (info == nullptr) return;
    InventoryEntry entry{info, &rule, layer, expert, StoredShape(config_, rule, layer, expert), true};
    entry.fits = SameShape(info->shape, entry.expected);
    const size_t index = out_.entries.size();
    out_.entries.push_back(entry);
    out_.index.emplace(info, index);
    const bool stacked = IsStacked(rule.transform);
    for (const Slot slot : rule.slots) {
      const int copies = stacked ? static_cast<int>(config_.moe.experts) : 1;
      const int own = rule.transform == Transform::kHeadByHead ? -1 : expert;
      for (int e = 0; e < copies; ++e) filled_[{slot, layer, stacked ? e : own}] = index;
    }
  }

  std::string MissingName(const SlotKey& key) const {
    for (const TensorRule& rule : rules_) {
      if (std::ranges::find(rule.slots, key.slot) != rule.slots.end()) return ExpandName(rule.name, key.layer, key.expert);
    }
    return ToString(key);
  }

  // A slot that is stored head by head is all of its tensors.
  void Use(const InventoryEntry& entry, std::set<const TensorInfo*>& used) const {
    used.insert(entry.tensor);
    if (entry.rule->transform != Transform::kHeadByHead) return;
    for (const InventoryEntry& other : out_.entries) {
      if (other.rule == entry.rule && other.layer == entry.layer) used.insert(other.tensor);
    }
  }

  void CompareWithGraph() {
    const BuiltGraph built = BuildGraph(config_, [&](const SlotKey& key) { return HfName(arch_, key); });
    std::set<const TensorInfo*> used;
    std::set<std::string> missing;
    for (const SlotKey& key : built.slots) {
      const auto found = filled_.find(key);
      if (found != filled_.end()) {
        Use(out_.entries[found->second], used);
      } else if (std::string name = MissingName(key); missing.insert(name).second) {
        out_.missing.push_back(std::move(name));
      }
    }
    for (const InventoryEntry& entry : out_.entries) {
      const Slot slot = entry.rule->slots.front();
      if (IsRopeFactors(slot)) used.insert(entry.tensor);
    }
    for (const TensorInfo& info : file_.tensors()) {
      if (used.count(&info) == 0 && !IsDerivedBuffer(info.name)) out_.unread.push_back(&info);
    }
  }

  const ModelFile& file_;
  const Architecture& arch_;
  const ModelConfig& config_;
  const std::vector<TensorRule>& rules_;
  std::map<SlotKey, size_t> filled_;
  Inventory out_;
};

std::optional<int> ReadNumber(std::string_view& text) {
  size_t digits = 0;
  int value = 0;
  while (digits < text.size() && digits < 6 && text[digits] >= '0' && text[digits] <= '9') value = 10 * value + (text[digits++] - '0');
  if (digits == 0 || (digits > 1 && text[0] == '0')) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

bool EndsWithAny(std::string_view name, std::initializer_list<std::string_view> tails) {
  return std::ranges::any_of(tails, [&](std::string_view tail) { return name.ends_with(tail); });
}

TensorRole RoleOfSlot(Slot slot) {
  const std::string_view name = SlotName(slot);
  if (slot == Slot::kTokenEmbedding) return TensorRole::kEmbedding;
  if (slot == Slot::kHead) return TensorRole::kHead;
  if (name.ends_with("bias")) return TensorRole::kBias;
  if (name.ends_with("norm")) return TensorRole::kNorm;
  const bool vector = IsRopeFactors(slot) || slot == Slot::kSinks || slot == Slot::kRouterCorrection;
  return vector ? TensorRole::kVector : TensorRole::kMatrix;
}

}  // namespace

const InventoryEntry* Inventory::EntryOf(const TensorInfo& info) const {
  const auto found = index.find(&info);
  return found == index.end() ? nullptr : &entries[found->second];
}

const std::vector<TensorRule>& RulesFor(const Architecture& architecture, Container container) {
  return container == Container::kGguf ? architecture.gguf_names : architecture.hf;
}

Inventory TakeInventory(const ModelFile& file, const Architecture& architecture, const ModelConfig& config) {
  return Taker(file, architecture, config).Run();
}

const char* TransformName(Transform transform) {
  switch (transform) {
    case Transform::kNone: return "none";
    case Transform::kRopeRows: return "rows of each head in adjacent-pair order";
    case Transform::kPlusOne: return "stored as w + 1";
    case Transform::kTransposed: return "transposed: [in, out]";
    case Transform::kPerHeadInterleaved: return "rows are [head][part][head_dim]";
    case Transform::kStackedExperts: return "experts stacked: [E, out, in]";
    case Transform::kStackedExpertsTransposed: return "experts stacked and transposed: [E, in, out]";
    case Transform::kStackedExpertsInterleaved: return "experts stacked, rows of the parts interleaved";
    case Transform::kHeadByHead: return "one tensor for each head";
    case Transform::kStackedExpertsInterleavedTransposed: return "experts stacked and transposed, columns of the parts interleaved";
  }
  return "";
}

Shape StoredShape(const ModelConfig& config, const TensorRule& rule, int layer, int expert) {
  if (rule.transform == Transform::kHeadByHead) return {config.head_dim};
  const bool stacked = IsStacked(rule.transform);
  const Shape first = SlotShape(config, {rule.slots.front(), layer, stacked ? 0 : expert});
  int64_t rows = 0;
  for (const Slot slot : rule.slots) rows += SlotShape(config, {slot, layer, stacked ? 0 : expert})[0];
  std::vector<int64_t> dims;
  if (stacked) dims.push_back(config.moe.experts);
  if (first.ndim() == 1) {
    dims.push_back(rows);
  } else {
    dims.push_back(IsTransposed(rule.transform) ? first.cols() : rows);
    dims.push_back(IsTransposed(rule.transform) ? rows : first.cols());
  }
  return Shape(dims);
}

const TensorInfo* FindTensor(const ModelFile& file, const std::string& name) {
  if (const TensorInfo* info = file.Find(name)) return info;
  return file.Find(name.substr(BasePrefix(file.container(), name).size()));
}

std::optional<NameMatch> MatchRule(const TensorRule& rule, Container naming, std::string_view name) {
  const auto match = MatchName(rule.name, name);
  return match ? match : MatchName(rule.name.substr(BasePrefix(naming, rule.name).size()), name);
}

std::optional<NameMatch> MatchName(std::string_view pattern, std::string_view name) {
  NameMatch out;
  while (!pattern.empty()) {
    if (pattern.starts_with("{L}") || pattern.starts_with("{E}")) {
      const auto number = ReadNumber(name);
      if (!number) return std::nullopt;
      (pattern[1] == 'L' ? out.layer : out.expert) = *number;
      pattern.remove_prefix(3);
      continue;
    }
    if (name.empty() || name.front() != pattern.front()) return std::nullopt;
    name.remove_prefix(1);
    pattern.remove_prefix(1);
  }
  return name.empty() ? std::optional(out) : std::nullopt;
}

bool IsDerivedBuffer(std::string_view name) {
  return EndsWithAny(name, {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"});
}

const char* TensorRoleName(TensorRole role) {
  switch (role) {
    case TensorRole::kEmbedding: return "embedding";
    case TensorRole::kHead: return "head";
    case TensorRole::kMatrix: return "matrix";
    case TensorRole::kNorm: return "norm";
    case TensorRole::kBias: return "bias";
    case TensorRole::kVector: return "vector";
    case TensorRole::kInteger: return "integer";
  }
  return "";
}

TensorRole RoleOf(const TensorInfo& info, const TensorRule* rule) {
  if (!InfoOf(info.dtype).is_float) return TensorRole::kInteger;
  if (rule != nullptr) return RoleOfSlot(rule->slots.front());
  const std::string_view name = info.name;
  if (name.ends_with("bias")) return TensorRole::kBias;
  if (name.find("norm") != name.npos || EndsWithAny(name, {"ln_1.weight", "ln_2.weight", "ln_f.weight"})) return TensorRole::kNorm;
  if (EndsWithAny(name, {"embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight", "token_embd.weight",
                         "embed_in.weight"})) {
    return TensorRole::kEmbedding;
  }
  if (EndsWithAny(name, {"lm_head.weight", "embed_out.weight"}) || name == "output.weight") return TensorRole::kHead;
  return info.shape.ndim() >= 2 ? TensorRole::kMatrix : TensorRole::kVector;
}

}  // namespace apr
