// See architecture.h. One entry per architecture; sources: transformers src/transformers/models/<name>/
// modeling_<name>.py and configuration_<name>.py; llama.cpp src/llama-model.cpp and
// convert_hf_to_gguf.py for the GGUF side.
#include "model/architecture.h"

#include <algorithm>

#include "model/architecture_names.h"

namespace apr {
namespace {

using QkNorm = ModelConfig::QkNorm;

std::vector<Architecture> LlamaFamily() {
  const FeatureRule by_key{false, "attention_bias"};
  return {
      {.name = "llama", .gguf = "llama", .hf_class = "LlamaForCausalLM",
       .qkv_bias = by_key, .o_bias = by_key, .mlp_bias = {false, "mlp_bias"},
       .tested = "llama|llama-yarn-bias|tiny-chat",
       .hf = LlamaNames(), .gguf_names = GgufRopeRows()},
      {.name = "mistral", .gguf = "llama", .hf_class = "MistralForCausalLM",
       .window = WindowRule::kAll,
       .tested = "mistral",
       .hf = LlamaNames(), .gguf_names = GgufRopeRows()},
      {.name = "mixtral", .gguf = "llama", .hf_class = "MixtralForCausalLM",
       .window = WindowRule::kAll, .default_rope_theta = 1e6,
       .moe = MoeRule::kEveryLayer, .moe_normalize = {true, {}}, .expert_ffn_is_intermediate = true,
       .tested = "mixtral",
       .hf = MixtralNames(), .gguf_names = GgufRopeRowsMoe()},
      {.name = "granite", .gguf = "granite", .hf_class = "GraniteForCausalLM",
       .qkv_bias = by_key, .o_bias = by_key, .mlp_bias = {false, "mlp_bias"},
       .own_keys = "attention_multiplier|embedding_multiplier|residual_multiplier|logits_scaling",
       .tested = "granite",
       .hf = LlamaNames(), .gguf_names = GgufRopeRows()},
      {.name = "smollm3", .gguf = "smollm3", .hf_class = "SmolLM3ForCausalLM",
       .qkv_bias = by_key, .o_bias = by_key, .mlp_bias = {false, "mlp_bias"},
       .window = WindowRule::kWithoutRope, .default_rope_theta = 2e6, .no_rope_layers = true, .tie_default = true,
       .tested = "smollm3",
       .hf = LlamaNames(), .gguf_names = GgufRopeRows()},
  };
}

std::vector<Architecture> QwenFamily() {
  const FeatureRule by_key{false, "attention_bias"};
  return {
      {.name = "qwen2", .gguf = "qwen2", .hf_class = "Qwen2ForCausalLM",
       .qkv_bias = {true, {}}, .window = WindowRule::kQwen,
       .tested = "qwen2|qwen2-window",
       .hf = LlamaNames(), .gguf_names = GgufNames()},
      {.name = "qwen3", .gguf = "qwen3", .hf_class = "Qwen3ForCausalLM",
       .qk_norm = QkNorm::kPerHead, .qkv_bias = by_key, .o_bias = by_key, .window = WindowRule::kQwen,
       .tested = "qwen3",
       .hf = LlamaNames(), .gguf_names = GgufNames()},
      {.name = "qwen2_moe", .gguf = "qwen2moe", .hf_class = "Qwen2MoeForCausalLM",
       .qkv_bias = {true, "qkv_bias"}, .window = WindowRule::kQwen2Moe,
       .moe = MoeRule::kSparseStep, .moe_normalize = {false, "norm_topk_prob"}, .shared_gated = true,
       .tested = "qwen2-moe-sparse-step",
       .hf = QwenMoeNames(), .gguf_names = GgufMoe()},
      {.name = "qwen3_moe", .gguf = "qwen3moe", .hf_class = "Qwen3MoeForCausalLM",
       .qk_norm = QkNorm::kPerHead, .qkv_bias = by_key, .o_bias = by_key, .window = WindowRule::kSwitched,
       .moe = MoeRule::kSparseStep, .moe_normalize = {false, "norm_topk_prob"},
       .tested = "qwen3-moe-mlp-only",
       .hf = QwenMoeNames(), .gguf_names = GgufMoe()},
  };
}

std::vector<Architecture> GemmaFamily() {
  const FeatureRule by_key{false, "attention_bias"};
  Architecture gemma{.name = "gemma", .gguf = "gemma", .hf_class = "GemmaForCausalLM",
                     .norm_offset = 1, .qkv_bias = by_key, .o_bias = by_key, .activation = "gelu_tanh",
                     .dead_activation_key = "hidden_activation", .gelu_means_tanh = true,
                     .scale_embedding_by_sqrt_hidden = true, .tie_default = true,
                     .tested = "gemma", .hf = LlamaNames(), .gguf_names = GgufPlusOneNorms()};
  Architecture gemma2 = gemma;
  gemma2.name = "gemma2";
  gemma2.gguf = "gemma2";
  gemma2.hf_class = "Gemma2ForCausalLM";
  gemma2.post_norm = true;
  gemma2.own_keys = "query_pre_attn_scalar|attn_logit_softcapping|final_logit_softcapping";
  gemma2.activation_key = "hidden_activation";
  gemma2.dead_activation_key = "hidden_act";
  gemma2.gelu_means_tanh = false;
  gemma2.window = WindowRule::kEveryNthFull;
  gemma2.window_pattern = 2;
  gemma2.tested = "gemma2";
  gemma2.hf = GemmaFourNormNames();
  Architecture gemma3 = gemma2;
  gemma3.name = "gemma3_text";
  gemma3.aliases = "gemma3";
  gemma3.gguf = "gemma3";
  gemma3.hf_class = "Gemma3ForCausalLM";
  gemma3.tested = "gemma3";
  gemma3.qk_norm = QkNorm::kPerHead;
  gemma3.window_pattern = 6;
  gemma3.local_rope_theta = 10000;
  gemma3.default_rope_theta = 1e6;
  return {gemma, gemma2, gemma3};
}

std::vector<Architecture> OlmoFamily() {
  const FeatureRule by_key{false, "attention_bias"};
  return {
      {.name = "olmo2", .gguf = "olmo2", .hf_class = "Olmo2ForCausalLM",
       .pre_norm = false, .post_norm = true, .qk_norm = QkNorm::kFullWidth, .qkv_bias = by_key, .o_bias = by_key,
       .tested = "olmo2",
       .hf = Olmo2Names(), .gguf_names = GgufNames()},
      {.name = "olmoe", .gguf = "olmoe", .hf_class = "OlmoeForCausalLM",
       .qk_norm = QkNorm::kFullWidth, .qkv_bias = by_key, .o_bias = by_key, .own_keys = "clip_qkv",
       .moe = MoeRule::kEveryLayer, .moe_normalize = {false, "norm_topk_prob"}, .expert_ffn_is_intermediate = true,
       .tested = "olmoe",
       .hf = QwenMoeNames(), .gguf_names = GgufMoe()},
  };
}

std::vector<Architecture> OtherDense() {
  return {
      {.name = "phi3", .gguf = "phi3", .hf_class = "Phi3ForCausalLM", .window = WindowRule::kAll,
       .tested = "phi3-partial-longrope",
       .hf = Phi3Names(), .gguf_names = GgufPhi3()},
      {.name = "gpt2", .gguf = "gpt2", .hf_class = "GPT2LMHeadModel",
       .layer_norm = true, .norm_has_bias = true, .qkv_bias = {true, {}}, .o_bias = {true, {}}, .mlp_bias = {true, {}},
       .mlp = MlpKind::kPlain, .activation = "gelu_tanh", .activation_key = "activation_function", .learned_positions = true, .single_kv_per_head = true,
       .own_keys = "scale_attn_weights|scale_attn_by_inverse_layer_idx", .tie_default = true, .tested = "gpt2-inverse-layer",
       .hf = Gpt2Names(), .gguf_names = GgufFusedQkv()},
      {.name = "gpt_neox", .gguf = "gptneox", .hf_class = "GPTNeoXForCausalLM",
       .layer_norm = true, .norm_has_bias = true, .qkv_bias = {true, "attention_bias"}, .o_bias = {true, "attention_bias"},
       .mlp_bias = {true, {}}, .mlp = MlpKind::kPlain, .activation = "gelu", .default_rotary_part = 0.25,
       .single_kv_per_head = true, .parallel_residual = {true, "use_parallel_residual"},
       .tested = "gpt-neox-serial",
       .hf = GptNeoxNames(), .gguf_names = GgufFusedQkv()},
      {.name = "starcoder2", .gguf = "starcoder2", .hf_class = "Starcoder2ForCausalLM",
       .layer_norm = true, .norm_has_bias = true, .qkv_bias = {true, "use_bias"}, .o_bias = {true, "use_bias"},
       .mlp_bias = {true, "use_bias"}, .mlp = MlpKind::kPlain, .activation = "gelu_tanh",
       .dead_activation_key = "activation_function", .window = WindowRule::kAll,
       .tie_default = true, .tested = "starcoder2",
       .hf = Starcoder2Names(), .gguf_names = GgufNames()},
      {.name = "stablelm", .gguf = "stablelm", .hf_class = "StableLmForCausalLM",
       .layer_norm = true, .norm_has_bias = true, .qk_norm = QkNorm::kPerHeadOwnWeight,
       .qk_norm_rule = {false, "qk_layernorm"}, .qkv_bias = {false, "use_qkv_bias"}, .default_rotary_part = 0.25,
       .parallel_residual = {false, "use_parallel_residual"}, .shared_parallel_norm = true,
       .tested = "stablelm-parallel",
       .hf = StableLmNames(), .gguf_names = GgufNames()},
      {.name = "cohere", .gguf = "command-r", .hf_class = "CohereForCausalLM",
       .layer_norm = true, .qk_norm = QkNorm::kPerHeadOwnWeight, .qk_norm_rule = {false, "use_qk_norm"},
       .qkv_bias = {false, "attention_bias"}, .o_bias = {false, "attention_bias"}, .adjacent_rope = true,
       .own_keys = "logit_scale", .tie_default = true, .parallel_residual = {true, {}}, .shared_parallel_norm = true,
       .tested = "cohere-qk-norm",
       .hf = LlamaNames(), .gguf_names = GgufNames()},
  };
}

std::vector<Architecture> OtherMoe() {
  Architecture deepseek{.name = "deepseek_v2", .gguf = "deepseek2", .hf_class = "DeepseekV2ForCausalLM",
                        .qkv_bias = {false, "attention_bias"}, .o_bias = {false, "attention_bias"}, .mlp_bias = {false, "mlp_bias"},
                        .adjacent_rope = true, .moe = MoeRule::kAfterDense, .latent_attention = true,
                        .tested = "deepseek-v2-q-lora",
                        .hf = DeepseekNames(), .gguf_names = GgufDeepseek()};
  Architecture v3 = deepseek;
  v3.name = "deepseek_v3";
  v3.tested = "deepseek-v3";
  v3.hf_class = "DeepseekV3ForCausalLM";
  v3.mlp_bias = {};
  v3.moe_scoring = "sigmoid";
  v3.moe_normalize = {true, "norm_topk_prob"};
  v3.moe_correction = true;
  v3.moe_group_by_top2 = true;
  return {
      {.name = "gpt_oss", .gguf = "gpt-oss", .hf_class = "GptOssForCausalLM",
       .qkv_bias = {true, "attention_bias"}, .o_bias = {true, "attention_bias"}, .window = WindowRule::kEveryNthFull,
       .window_pattern = 2, .default_rope_theta = 150000, .attention_sinks = true,
       .moe = MoeRule::kEveryLayer, .moe_scoring = "softmax_after_top_k", .moe_router_bias = true, .moe_expert_bias = true,
       .expert_ffn_is_intermediate = true, .tested = "gpt-oss",
       .hf = GptOssNames(), .gguf_names = GgufGptOss()},
      deepseek,
      v3,
  };
}

std::vector<Architecture> Build() {
  std::vector<Architecture> all;
  for (auto family : {LlamaFamily, QwenFamily, GemmaFamily, OlmoFamily, OtherDense, OtherMoe}) {
    for (Architecture& a : family()) all.push_back(std::move(a));
  }
  return all;
}

bool Matches(const Architecture& a, std::string_view model_type) {
  if (a.name == model_type) return true;
  std::string_view rest = a.aliases;
  while (!rest.empty()) {
    const size_t end = rest.find('|');
    if (rest.substr(0, end) == model_type) return true;
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  return false;
}

}  // namespace

std::span<const Architecture> AllArchitectures() {
  static const std::vector<Architecture> kAll = Build();
  return kAll;
}

std::vector<std::string> TestedModels(const Architecture& architecture) {
  std::vector<std::string> out;
  std::string_view rest = architecture.tested;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('|'), rest.size());
    out.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

const Architecture* FindByModelType(std::string_view model_type) {
  for (const Architecture& a : AllArchitectures()) {
    if (Matches(a, model_type)) return &a;
  }
  return nullptr;
}

const Architecture* FindByGgufName(std::string_view name, bool has_experts) {
  const Architecture* other = nullptr;
  for (const Architecture& a : AllArchitectures()) {
    if (name.empty() || a.gguf != name) continue;
    if ((a.moe != MoeRule::kNone) == has_experts) return &a;
    if (other == nullptr) other = &a;
  }
  return other;
}

}  // namespace apr
