// What distinguishes one architecture from another, as data: a descriptor and two name tables.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tensor_table.h"

namespace apr {

// Whether a bias exists.
struct BiasRule {
  bool present = false;          // unless `key` is there
  std::string_view key = {};     // config.json key that decides; GGUF: the tensor's presence decides
};

enum class WindowRule {
  kNone,          // every layer attends to everything
  kAll,           // `sliding_window` holds for every layer
  kQwen,          // `use_sliding_window`, from layer `max_window_layers` on, or `layer_types`
  kEveryNthFull,  // layer i is full when (i + 1) % pattern == 0, or `layer_types`
};

struct Architecture {
  std::string_view name;            // Hugging Face model_type
  std::string_view aliases = {};    // further model_types, '|' between
  std::string_view gguf;            // general.architecture; empty: GGUF has none
  std::string_view hf_class;        // for config.json of exported folders

  bool layer_norm = false;
  double norm_offset = 0;
  bool norm_has_bias = false;
  bool pre_norm = true;
  bool post_norm = false;
  ModelConfig::QkNorm qk_norm = ModelConfig::QkNorm::kNone;
  BiasRule qkv_bias = {};
  BiasRule o_bias = {};
  BiasRule mlp_bias = {};
  MlpKind mlp = MlpKind::kGated;
  std::string_view activation = "silu";        // where the file has no key
  bool scale_embedding_by_sqrt_hidden = false;
  WindowRule window = WindowRule::kNone;
  int64_t window_pattern = 0;                  // kEveryNthFull: where the file has no key
  double local_rope_theta = 0;                 // Gemma 3: windowed layers rotate with this base
  bool tie_default = false;                    // where the file has neither flag nor head
  bool parallel_residual = false;

  std::vector<TensorRule> hf;       // Hugging Face names
  std::vector<TensorRule> gguf_names;
};

std::span<const Architecture> AllArchitectures();
// nullptr if unknown.
const Architecture* FindByModelType(std::string_view model_type);
const Architecture* FindByGgufName(std::string_view name);

}  // namespace apr
