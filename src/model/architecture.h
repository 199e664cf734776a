// What distinguishes one architecture from another, as data: a descriptor and two name tables.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tensor_table.h"

namespace apr {

// Whether a feature exists.
struct FeatureRule {
  bool present = false;          // unless `key` is there
  std::string_view key = {};     // config.json key that decides
};

enum class WindowRule {
  kNone,          // every layer attends to everything
  kAll,           // `sliding_window` holds for every layer
  kQwen,          // `use_sliding_window`, from layer `max_window_layers` on, or `layer_types`
  kQwen2Moe,      // `use_sliding_window`, every other of the first `max_window_layers`, or `layer_types`
  kSwitched,      // `use_sliding_window`, every layer
  kWithoutRope,   // `use_sliding_window`, layers that do not rotate, or `layer_types` (SmolLM3)
  kEveryNthFull,  // layer i is full when (i + 1) % pattern == 0, or `layer_types`
};

enum class MoeRule {
  kNone,
  kEveryLayer,     // Mixtral, OLMoE, gpt-oss
  kSparseStep,     // Qwen: decoder_sparse_step, mlp_only_layers
  kAfterDense,     // DeepSeek: from layer first_k_dense_replace on
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
  FeatureRule qk_norm_rule = {true, {}};       // with qk_norm: whether it is on
  FeatureRule qkv_bias = {};
  FeatureRule o_bias = {};
  FeatureRule mlp_bias = {};
  MlpKind mlp = MlpKind::kGated;
  std::string_view activation = "silu";        // where the file has no key
  std::string_view activation_key = "hidden_act";
  // A key that old files carry beside activation_key and that the model's code does not read.
  std::string_view dead_activation_key = {};
  bool gelu_means_tanh = false;                // Gemma's first files say "gelu" and mean the approximation
  bool scale_embedding_by_sqrt_hidden = false;
  WindowRule window = WindowRule::kNone;
  int64_t window_pattern = 0;                  // kEveryNthFull: where the file has no key
  double local_rope_theta = 0;                 // Gemma 3: windowed layers rotate with this base
  double default_rope_theta = 10000;           // of its configuration class, where the file is silent
  double default_rotary_part = 1;              // likewise, of the head
  bool adjacent_rope = false;
  bool no_rope_layers = false;                 // SmolLM3: some layers do not rotate
  bool learned_positions = false;
  bool single_kv_per_head = false;             // every head has its own key and value, whatever the file says
  // config.json keys of scales and caps that this class knows, '|' between; on others they are refused.
  std::string_view own_keys = {};
  bool tie_default = false;                    // where the file has neither flag nor head
  FeatureRule parallel_residual = {};
  bool shared_parallel_norm = false;
  bool attention_sinks = false;

  MoeRule moe = MoeRule::kNone;
  std::string_view moe_scoring = "softmax";
  FeatureRule moe_normalize = {};
  bool moe_router_bias = false;
  bool moe_correction = false;
  bool moe_expert_bias = false;
  bool moe_group_by_top2 = false;
  bool shared_gated = false;
  bool expert_ffn_is_intermediate = false;     // no moe_intermediate_size of its own
  bool latent_attention = false;

  std::string_view tested;                     // models of testdata/model, '|' between

  std::vector<TensorRule> hf;                  // Hugging Face names
  std::vector<TensorRule> gguf_names;
};

std::span<const Architecture> AllArchitectures();
std::vector<std::string> TestedModels(const Architecture& architecture);
// nullptr if unknown.
const Architecture* FindByModelType(std::string_view model_type);
// Several architectures share one GGUF name; whether the file has experts tells them apart.
const Architecture* FindByGgufName(std::string_view name, bool has_experts);

}  // namespace apr
