// See architecture.h. One entry per architecture; sources: transformers src/transformers/models/<name>/
// modeling_<name>.py and configuration_<name>.py; llama.cpp src/llama-model.cpp and
// convert_hf_to_gguf.py for the GGUF side.
#include "model/architecture.h"

#include <algorithm>

namespace apr {
namespace {

using enum Transform;

// GGUF files of Llama's family keep the rows of q and k in adjacent-pair order.
std::vector<TensorRule> GgufRopeRows() {
  return WithOverrides(GgufNames(), {{"blk.{L}.attn_q.weight", {Slot::kQ}, kRopeRows},
                                     {"blk.{L}.attn_q.bias", {Slot::kQBias}, kRopeRows},
                                     {"blk.{L}.attn_k.weight", {Slot::kK}, kRopeRows},
                                     {"blk.{L}.attn_k.bias", {Slot::kKBias}, kRopeRows}});
}

// GGUF files of Gemma store every norm weight as w + 1.
std::vector<TensorRule> GgufPlusOneNorms() {
  return WithOverrides(GgufNames(), {{"output_norm.weight", {Slot::kFinalNorm}, kPlusOne},
                                     {"blk.{L}.attn_norm.weight", {Slot::kAttnNorm}, kPlusOne},
                                     {"blk.{L}.attn_q_norm.weight", {Slot::kQNorm}, kPlusOne},
                                     {"blk.{L}.attn_k_norm.weight", {Slot::kKNorm}, kPlusOne},
                                     {"blk.{L}.post_attention_norm.weight", {Slot::kPostAttnNorm}, kPlusOne},
                                     {"blk.{L}.ffn_norm.weight", {Slot::kFfnNorm}, kPlusOne},
                                     {"blk.{L}.post_ffw_norm.weight", {Slot::kPostFfnNorm}, kPlusOne}});
}

// Gemma 2 and 3 have four norms per layer.
std::vector<TensorRule> GemmaNames() {
  return WithOverrides(LlamaNames(),
                       {{"model.layers.{L}.post_attention_layernorm.weight", {Slot::kPostAttnNorm}},
                        {"model.layers.{L}.pre_feedforward_layernorm.weight", {Slot::kFfnNorm}},
                        {"model.layers.{L}.post_feedforward_layernorm.weight", {Slot::kPostFfnNorm}}});
}

std::vector<Architecture> Build() {
  std::vector<Architecture> all;
  all.push_back({.name = "llama",
                 .gguf = "llama",
                 .hf_class = "LlamaForCausalLM",
                 .qkv_bias = {false, "attention_bias"},
                 .o_bias = {false, "attention_bias"},
                 .mlp_bias = {false, "mlp_bias"},
                 .hf = LlamaNames(),
                 .gguf_names = GgufRopeRows()});
  all.push_back({.name = "mistral",
                 .gguf = "llama",
                 .hf_class = "MistralForCausalLM",
                 .window = WindowRule::kAll,
                 .hf = LlamaNames(),
                 .gguf_names = GgufRopeRows()});
  all.push_back({.name = "qwen2",
                 .gguf = "qwen2",
                 .hf_class = "Qwen2ForCausalLM",
                 .qkv_bias = {true, {}},
                 .window = WindowRule::kQwen,
                 .hf = LlamaNames(),
                 .gguf_names = GgufNames()});
  all.push_back({.name = "qwen3",
                 .gguf = "qwen3",
                 .hf_class = "Qwen3ForCausalLM",
                 .qk_norm = ModelConfig::QkNorm::kPerHead,
                 .qkv_bias = {false, "attention_bias"},
                 .o_bias = {false, "attention_bias"},
                 .window = WindowRule::kQwen,
                 .hf = LlamaNames(),
                 .gguf_names = GgufNames()});
  all.push_back({.name = "gemma3_text",
                 .aliases = "gemma3",
                 .gguf = "gemma3",
                 .hf_class = "Gemma3ForCausalLM",
                 .norm_offset = 1,
                 .post_norm = true,
                 .qk_norm = ModelConfig::QkNorm::kPerHead,
                 .qkv_bias = {false, "attention_bias"},
                 .o_bias = {false, "attention_bias"},
                 .activation = "gelu_tanh",
                 .scale_embedding_by_sqrt_hidden = true,
                 .window = WindowRule::kEveryNthFull,
                 .window_pattern = 6,
                 .local_rope_theta = 10000,
                 .tie_default = true,
                 .hf = GemmaNames(),
                 .gguf_names = GgufPlusOneNorms()});
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

const Architecture* FindByModelType(std::string_view model_type) {
  for (const Architecture& a : AllArchitectures()) {
    if (Matches(a, model_type)) return &a;
  }
  return nullptr;
}

const Architecture* FindByGgufName(std::string_view name) {
  if (name.empty()) return nullptr;
  for (const Architecture& a : AllArchitectures()) {
    if (a.gguf == name) return &a;
  }
  return nullptr;
}

}  // namespace apr
