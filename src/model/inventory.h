// What an architecture expects of a file and what the file holds, from names and shapes alone: no tensor
// data is read.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "format/model_file.h"
#include "model/architecture.h"
#include "model/config.h"
#include "model/slot.h"

namespace apr {

// A tensor of the file that a rule of the architecture names.
struct InventoryEntry {
  const TensorInfo* tensor = nullptr;
  const TensorRule* rule = nullptr;
  int layer = -1, expert = -1;
  Shape expected;  // as the file must store it
  bool fits = true;
};

struct Inventory {
  std::vector<InventoryEntry> entries;      // in the order of the rules
  std::vector<std::string> missing;         // names that the computation needs and the file lacks
  std::vector<const TensorInfo*> unread;    // tensors that the computation does not use
  std::unordered_map<const TensorInfo*, size_t> index;  // tensor -> its place in `entries`

  const InventoryEntry* EntryOf(const TensorInfo& info) const;  // nullptr: no rule names it
};

// The rules that hold for a container: Hugging Face names, or GGUF's.
const std::vector<TensorRule>& RulesFor(const Architecture& architecture, Container container);

// The tensor that a rule names. A base model saved without its head (transformers: base_model_prefix) has its names
// without the first part. nullptr: the file has none.
const TensorInfo* FindTensor(const ModelFile& file, const std::string& name);

// Throws kModelLoad when no graph can be built for `config`.
Inventory TakeInventory(const ModelFile& file, const Architecture& architecture, const ModelConfig& config);

const char* TransformName(Transform transform);  // for people: "rows of each head in adjacent-pair order"

// The tensor of `rule` as a file stores it: parts one below the other, transposed, stacked.
Shape StoredShape(const ModelConfig& config, const TensorRule& rule, int layer, int expert);

// Layer and expert of `name` if it is what `pattern` ("model.layers.{L}.mlp.experts.{E}.up_proj.weight") stands
// for.
struct NameMatch {
  int layer = -1, expert = -1;
};
std::optional<NameMatch> MatchName(std::string_view pattern, std::string_view name);
// Likewise for a rule, also without the first part of a base model's names.
std::optional<NameMatch> MatchRule(const TensorRule& rule, Container naming, std::string_view name);

// Rotary frequencies and causal masks that training frameworks store beside the parameters.
bool IsDerivedBuffer(std::string_view name);

// What a tensor is for, as far as rules of thumb go that need no model.
enum class TensorRole { kEmbedding, kHead, kMatrix, kNorm, kBias, kVector, kInteger };
const char* TensorRoleName(TensorRole role);
// By the rule where there is one (nullptr: none), else by the name's common spellings and the shape.
TensorRole RoleOf(const TensorInfo& info, const TensorRule* rule);

}  // namespace apr
