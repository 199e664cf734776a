// The one transform table: how a tensor of a file becomes slots of the model, stated once per
// architecture and container and used in both directions by the loader, the converters, the weight
// comparison and the cause search.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/slot.h"
#include "tensor/tensor.h"

namespace apr {

// How the bytes of a file's tensor relate to its slots. `slot` values are canonical: [out, in], rope
// pairs in split halves where the model rotates so, norm weights as Hugging Face stores them.
enum class Transform {
  kNone,              // one slot, as it stands; or several slots one below the other (rows)
  kRopeRows,          // rows of each head in adjacent-pair order (llama.cpp's convert: permute)
  kPlusOne,           // file = slot + 1
  kTransposed,        // file is [in, out]; several slots then lie side by side
  kPerHeadInterleaved,// GPT-NeoX: rows of the file are [head][slot][head_dim]
  kStackedExperts,    // [E, out, in]: one slot per expert
  kStackedExpertsTransposed,          // [E, in, out]
  kStackedExpertsInterleaved,         // [E, 2 * out, in], rows gate, up, gate, up ...
  kHeadByHead,        // one tensor for each head, {E} in its name: a row of the slot (StableLM)
  kStackedExpertsInterleavedTransposed,  // [E, in, 2 * out], columns gate, up, gate, up ... (gpt-oss)
};

bool IsStacked(Transform t);     // over experts
bool IsTransposed(Transform t);

struct TensorRule {
  std::string_view name;      // "{L}" stands for the layer, "{E}" for the expert, or the head
  std::vector<Slot> slots;
  Transform transform = Transform::kNone;
  bool read_only = false;     // another way to store the slots of a rule before it: read, never written
};

// `pattern` with its placeholders filled in.
std::string ExpandName(std::string_view pattern, int layer, int expert);

// Shape of a slot in canonical orientation, from the configuration.
Shape SlotShape(const ModelConfig& config, const SlotKey& key);

// For kRopeRows: canonical row r is row order[r] of the file. `rows` = heads * head_dim.
std::vector<int32_t> RopeRowOrder(int64_t rows, int64_t heads, int64_t rotary_dim);

// Rows of this layer's rope slots: heads for q slots, kv heads for k slots.
int64_t HeadsOf(const ModelConfig& config, Slot slot);

// Tables shared by many architectures.
const std::vector<TensorRule>& LlamaNames();   // Hugging Face, Llama and its descendants
const std::vector<TensorRule>& GgufNames();    // GGUF (gguf-py/gguf/constants.py)

// `base` with every rule that shares a slot with one of `overrides` replaced by those.
std::vector<TensorRule> WithOverrides(const std::vector<TensorRule>& base, std::vector<TensorRule> overrides);

}  // namespace apr
