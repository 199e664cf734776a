// See unread_keys.h. Sources: transformers configuration_utils.py, the configuration classes of the
// supported models and the config.json of published ones.
#include "model/unread_keys.h"

#include <algorithm>
#include <span>

#include "base/json.h"

namespace apr {
namespace {

constexpr std::string_view kBookkeeping[] = {
    "_attn_implementation", "_attn_implementation_autoset", "_experts_implementation",
    "_name_or_path", "activation_dropout", "add_cross_attention", "architectures",
    "attention_dropout", "attention_softmax_in_fp32", "attn_dropout", "attn_implementation",
    "attn_pdrop", "auto_map", "aux_loss_alpha", "bos_token", "bos_token_id", "cache_implementation",
    "chunk_size_feed_forward", "classifier_dropout", "cross_attention_hidden_size",
    "decoder_start_token_id", "dtype", "embd_pdrop", "embedding_dropout", "eos_token",
    "eos_token_id", "ep_size", "experts_implementation", "ffn_dropout", "gradient_checkpointing",
    "head_dropout", "hidden_dropout", "id2label", "initializer_range", "is_decoder",
    "is_encoder_decoder", "is_llama_config", "label2id", "layer_norm_elementwise_affine",
    "layer_norm_initializer", "layerdrop", "max_length", "max_window_layers", "mlp_dropout",
    "model_max_length", "model_type", "n_ctx", "num_nextn_predict_layers", "output_attentions",
    "output_hidden_states", "output_router_logits", "pad_token", "pad_token_id", "prefix",
    "pretraining_tp", "problem_type", "quantization", "quantization_config", "reorder_and_upcast_attn",
    "resid_pdrop", "residual_dropout", "return_dict", "rope_interleaved", "router_aux_loss_coef",
    "router_jitter_noise", "router_z_loss_coef", "scale_attention_softmax_in_fp32", "sep_token_id",
    "seq_aux", "sequence_parallel", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params",
    "tensor_parallel", "tie_word_embeddings", "tokenizer_class", "torch_dtype", "torchscript",
    "transformers.js_config", "transformers_version", "unk_token_id", "unsloth_fixed",
    "unsloth_version", "use_bfloat16", "use_cache", "use_flash_attention", "use_flash_attention_2",
    "use_flash_attn",
};

// Parts of names that speak of the forward pass.
constexpr std::string_view kWords[] = {
    "scale", "scaling", "multiplier", "softcap", "clip", "clamp", "window", "rope", "rotary", "alibi", "bias",
    "norm", "eps", "activation", "_act", "act_fn", "moe", "expert", "router", "head", "attn", "attention", "residual",
    "parallel", "logit", "position", "ffn", "mlp", "mamba", "ssm", "conv", "layer", "causal", "bidirectional", "sink",
    "gate", "swiglu", "chunk", "sparse", "hidden", "embed", "rank", "lora", "score", "scoring", "topk", "top_k",
    "shared", "kv_", "qk_", "theta", "factor",
};

// Values that describe what is computed anyway.
struct Known {
  std::string_view architecture;  // empty: any
  std::string_view key;
  std::string_view value;  // as JSON
};
constexpr Known kKnown[] = {
    {"", "scale_attn_weights", "true"},        {"", "moe_layer_freq", "1"},
    {"deepseek_v2", "scoring_func", "\"softmax\""}, {"deepseek_v3", "scoring_func", "\"sigmoid\""},
    {"starcoder2", "norm_type", "\"layer_norm\""}, {"starcoder2", "mlp_type", "\"default\""},
    {"", "layer_norm_type", "\"default\""},    {"", "position_embedding_type", "\"rope\""},
    {"", "attention_type", "\"full\""},        {"", "logit_scale", "1.0"},
    {"", "logits_scaling", "1.0"},             {"", "residual_multiplier", "1.0"},
    {"", "embedding_multiplier", "1.0"},
};

// Every parameter of modeling_rope_utils.py, also where the kind of scaling at hand does not use it.
constexpr std::string_view kRopeKeys[] = {
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "attention_factor", "beta_fast",
    "beta_slow", "short_factor", "long_factor", "low_freq_factor", "high_freq_factor", "mscale", "mscale_all_dim",
    "truncate", "partial_rotary_factor", "finetuned", "full_attention", "sliding_attention",
};

// GGUF keys, after the architecture's prefix, that other models switch their computation with.
constexpr std::string_view kGgufMatters[] = {
    "attention.causal", "attention.max_alibi_bias", "attention.clamp_kqv", "attention.relative_buckets_count",
    "attention.scale", "attn_logit_softcapping", "final_logit_softcapping", "logit_scale", "residual_scale",
    "embedding_scale", "swin_norm", "rope.dimension_sections", "attention.temperature_scale",
    "attention.temperature_length", "interleave_moe_layer_step", "wkv.head_size", "ssm.state_size",
    "attention.shared_kv_layers", "attention.chunk_size", "rope.scaling.yarn_log_multiplier",
};

bool Contains(std::span<const std::string_view> list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

bool SpeaksOfTheForwardPass(std::string_view key) {
  std::string lower(key);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return std::any_of(std::begin(kWords), std::end(kWords),
                     [&](std::string_view word) { return lower.find(word) != std::string::npos; });
}

bool IsKnown(std::string_view architecture, std::string_view key, const Json& value) {
  return std::any_of(std::begin(kKnown), std::end(kKnown), [&](const Known& known) {
    return known.key == key && (known.architecture.empty() || known.architecture == architecture) &&
           ParseJson(known.value, "known values") == value;
  });
}

void AddRopeKeys(const std::string& at, const Json& parameters, std::vector<std::string>& out) {
  if (!parameters.is_object()) return;
  for (const auto& [key, value] : parameters.items()) {
    if (!Contains(kRopeKeys, key) && !value.is_null()) out.push_back(at + "." + key);
    else if (value.is_object()) AddRopeKeys(at + "." + key, value, out);
  }
}

}  // namespace

bool IsBookkeeping(std::string_view key) { return Contains(kBookkeeping, key); }

std::vector<std::string> KeysThatMatter(const ModelFile& file, std::string_view architecture,
                                        const std::vector<std::string>& unread) {
  std::vector<std::string> out;
  if (file.container() == Container::kGguf) {
    for (const std::string& key : unread) {
      const size_t dot = key.find('.');
      if (dot != std::string::npos && Contains(kGgufMatters, std::string_view(key).substr(dot + 1))) out.push_back(key);
    }
    return out;
  }
  if (file.container() != Container::kSafetensors || file.config() == nullptr) return out;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (const auto it = file.config()->find(key); it != file.config()->end()) AddRopeKeys(key, *it, out);
  }
  for (const std::string& key : unread) {
    const auto it = file.config()->find(key);
    if (it == file.config()->end() || IsKnown(architecture, key, *it)) continue;
    if (SpeaksOfTheForwardPass(key)) out.push_back(key);
  }
  return out;
}

}  // namespace apr
