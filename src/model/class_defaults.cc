// See class_defaults.h. tools/oracle/twins.py compares with transformers on files that leave keys out.
#include "model/class_defaults.h"

namespace apr {
namespace {

struct Row {
  std::string_view model_type;
  std::string_view json;
};

constexpr Row kRows[] = {
    {"llama", R"({"max_position_embeddings": 2048, "rms_norm_eps": 1e-06})"},
    {"mistral", R"({"num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-06,
                    "sliding_window": 4096})"},
    {"mixtral", R"({"num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05,
                    "num_experts_per_tok": 2, "num_local_experts": 8})"},
    {"granite", R"({"max_position_embeddings": 2048, "rms_norm_eps": 1e-06, "attention_multiplier": 1.0})"},
    {"smollm3", R"({"num_key_value_heads": 4, "max_position_embeddings": 32768, "rms_norm_eps": 1e-06})"},
    {"qwen2", R"({"num_key_value_heads": 32, "max_position_embeddings": 32768, "rms_norm_eps": 1e-06,
                  "max_window_layers": 28})"},
    {"qwen3", R"({"num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 32768,
                  "rms_norm_eps": 1e-06, "max_window_layers": 28})"},
    {"qwen2_moe", R"({"num_key_value_heads": 16, "max_position_embeddings": 32768, "rms_norm_eps": 1e-06,
                      "max_window_layers": 28, "moe_intermediate_size": 1408,
                      "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4, "num_experts": 60})"},
    {"qwen3_moe", R"({"num_key_value_heads": 4, "max_position_embeddings": 32768, "rms_norm_eps": 1e-06,
                      "moe_intermediate_size": 768, "num_experts_per_tok": 8, "num_experts": 128})"},
    {"gemma", R"({"num_key_value_heads": 16, "head_dim": 256, "max_position_embeddings": 8192,
                  "rms_norm_eps": 1e-06})"},
    {"gemma2", R"({"num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 8192,
                   "rms_norm_eps": 1e-06, "query_pre_attn_scalar": 256, "sliding_window": 4096,
                   "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0})"},
    {"gemma3_text", R"({"num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
                        "rms_norm_eps": 1e-06, "query_pre_attn_scalar": 256, "sliding_window": 4096})"},
    {"olmo2", R"({"max_position_embeddings": 2048, "rms_norm_eps": 1e-05})"},
    {"olmoe", R"({"max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "num_experts_per_tok": 8,
                  "num_experts": 64})"},
    {"phi3", R"({"max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05})"},
    {"gpt2", R"({"n_positions": 1024, "layer_norm_epsilon": 1e-05})"},
    {"gpt_neox", R"({"max_position_embeddings": 2048, "layer_norm_eps": 1e-05})"},
    {"starcoder2", R"({"num_key_value_heads": 2, "max_position_embeddings": 4096, "norm_epsilon": 1e-05})"},
    {"stablelm", R"({"num_key_value_heads": 32, "max_position_embeddings": 4096, "layer_norm_eps": 1e-05})"},
    {"cohere", R"({"max_position_embeddings": 8192, "layer_norm_eps": 1e-05, "logit_scale": 0.0625})"},
    {"gpt_oss", R"({"num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 131072,
                    "rms_norm_eps": 1e-05, "sliding_window": 128, "num_local_experts": 128, "num_experts_per_tok": 4,
                    "rope_parameters": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                                        "truncate": false, "original_max_position_embeddings": 4096}})"},
    {"deepseek_v2", R"({"max_position_embeddings": 2048, "rms_norm_eps": 1e-06, "kv_lora_rank": 512,
                        "q_lora_rank": 1536, "n_routed_experts": 64, "n_shared_experts": 2, "qk_nope_head_dim": 128,
                        "qk_rope_head_dim": 64, "topk_method": "greedy", "v_head_dim": 128,
                        "moe_intermediate_size": 1407})"},
    {"deepseek_v3", R"({"max_position_embeddings": 4096, "rms_norm_eps": 1e-06, "kv_lora_rank": 512,
                        "q_lora_rank": 1536, "n_routed_experts": 256, "n_shared_experts": 1, "qk_nope_head_dim": 128,
                        "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_intermediate_size": 2048,
                        "routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8,
                        "first_k_dense_replace": 3})"},
};

}  // namespace

std::string_view ClassDefaults(std::string_view model_type) {
  for (const Row& row : kRows) {
    if (row.model_type == model_type) return row.json;
  }
  return "{}";
}

}  // namespace apr
