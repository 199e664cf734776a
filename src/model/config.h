// The resolved configuration of a model: every constant that the computation uses, and where each
// came from. Nothing is assumed that the file says; what a rule derives is marked as such.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "op/rope/rope.h"

namespace apr {

enum class MlpKind {
  kGated,  // down(act(gate(x)) * up(x))
  kPlain,  // down(act(up(x)))
};

struct RopeSpec {
  RopeTableAttributes table;
  bool adjacent = false;    // pairs (2 i, 2 i + 1) instead of (i, i + rotary_dim / 2)
  bool halves_out = false;  // see RopeAttributes
};

struct LayerSpec {
  int64_t window = 0;  // 0: attends to the whole sequence
  int rope = 0;        // index into ModelConfig::ropes; -1: no rotation
  bool moe = false;
};

// Mixture of experts; experts == 0 where there is none.
struct MoeSpec {
  int64_t experts = 0;
  int64_t top_k = 0;
  int64_t expert_ffn = 0;
  int64_t shared_ffn = 0;          // 0: no shared expert
  bool shared_bias = false;        // the shared expert's projections have biases (DeepSeek-V2, mlp_bias)
  bool shared_gated = false;       // the shared expert's output is times sigmoid(w x) (Qwen2-MoE)
  std::string scoring = "softmax"; // as MoeRouteAttributes::scoring
  bool router_bias = false;
  bool correction = false;         // scores are corrected for choosing (DeepSeek-V3)
  bool expert_bias = false;
  bool normalize = false;          // chosen weights divided by their sum
  double scaling = 1;              // chosen weights times this
  int64_t groups = 1;              // DeepSeek: experts in groups, only top_groups of them eligible
  int64_t top_groups = 1;
  bool group_by_top2 = false;      // a group's score: sum of its two best (V3), else its best (V2)
};

// Latent attention (DeepSeek-V2, arXiv 2405.04434); kv_rank == 0 where there is none.
struct LatentSpec {
  int64_t q_rank = 0;   // 0: q is projected directly
  int64_t kv_rank = 0;
  int64_t nope_dim = 0;
  int64_t rope_dim = 0;
  bool down_bias = false;  // the projections to q_rank and kv_rank have biases
  double score_scale = 1;  // from YaRN's mscale_all_dim: multiplies 1 / sqrt(head_dim)
};

struct ConfigSource {
  std::string field;   // name in this struct
  std::string value;   // as printed
  std::string origin;  // "config.json: num_attention_heads", "gguf: llama.block_count", "rule: hidden_size / num_heads"
};

struct ModelConfig {
  std::string architecture;  // Hugging Face model_type: "llama", "gemma3_text" is "gemma3"

  int64_t vocab_size = 0;        // V, rows of the embedding
  int64_t hidden_size = 0;       // C
  int64_t num_layers = 0;        // L
  int64_t num_heads = 0;         // H
  int64_t num_kv_heads = 0;      // KV
  int64_t head_dim = 0;          // D, of q and k
  int64_t v_head_dim = 0;        // of v
  int64_t ffn_size = 0;          // F
  int64_t max_positions = 0;     // context the file declares
  bool tie_embeddings = false;

  bool layer_norm = false;       // else rms_norm
  double norm_eps = 0;
  double norm_offset = 0;        // weights multiply as (w + offset)
  bool norm_has_bias = false;
  bool norm_has_weight = true;   // OLMo 1 has none
  bool pre_norm = true;
  bool post_norm = false;        // a norm between each sub-layer and its residual (Gemma 2/3, OLMo 2)
  bool q_bias = false, k_bias = false, v_bias = false, o_bias = false;
  bool gate_bias = false, up_bias = false, down_bias = false;
  bool head_bias = false;
  enum class QkNorm { kNone, kPerHead, kPerHeadOwnWeight, kFullWidth } qk_norm = QkNorm::kNone;
  bool qk_norm_after_rope = false;
  bool qk_norm_layer = false;    // the q/k norms are layer norms (Cohere, StableLM) without bias

  MlpKind mlp = MlpKind::kGated;
  std::string activation;        // as ActivationAttributes::kind
  double swiglu_limit = 0;       // gpt-oss: clamp; 0: none
  double swiglu_alpha = 0;       // gpt-oss: x * sigmoid(alpha x)

  bool learned_positions = false;
  int64_t position_offset = 0;
  std::vector<RopeSpec> ropes;
  std::vector<LayerSpec> layers;

  double attention_scale = 0;
  bool attention_scale_by_layer = false;  // divided by layer + 1 (GPT-2)
  double qkv_clip = 0;           // q, k, v clamped to [-clip, clip] before rotation (OLMoE); 0: not
  double attention_softcap = 0;
  double logit_softcap = 0;
  double embedding_scale = 1;
  double residual_scale = 1;
  double logit_scale = 1;        // logits are multiplied by it
  bool parallel_residual = false;
  bool shared_parallel_norm = false;  // parallel residual with one norm for both branches (Cohere, GPT-J)
  bool attention_sinks = false;

  MoeSpec moe;
  LatentSpec latent;

  std::vector<ConfigSource> sources;      // one per field, in the order in which they were resolved
  std::vector<std::string> unread_keys;   // keys of the file that nothing read and that may matter

  Json ToJson() const;       // fields with origin
  std::string ToText() const;
};

}  // namespace apr
