// See export_config.h. Key names: transformers configuration_<architecture>.py.
#include "model/export_config.h"

#include <cmath>

#include "base/error.h"
#include "base/json.h"

namespace apr {
namespace {

[[noreturn]] void CannotExpress(const std::string& field) {
  throw Error(ErrorCode::kModelLoad, "config.json cannot express " + field, {.tensor = field});
}

const char* HfActivation(const std::string& kind) {
  if (kind == "gelu_tanh") return "gelu_pytorch_tanh";
  return kind.c_str();
}

// Explicit factors (GGUF tensor rope_freqs) as the llama3 rule that made them, if there is one: the
// published models use these constants (transformers, Llama 3.1 and 3.2 config.json).
std::optional<Json> Llama3Rule(const RopeTableAttributes& table) {
  for (const double factor : {8.0, 32.0, 16.0, 4.0}) {
    for (const double context : {8192.0, 4096.0}) {
      RopeTableAttributes rule = table;
      rule.scaling = "llama3";
      rule.factor = factor;
      rule.low_freq_factor = 1;
      rule.high_freq_factor = 4;
      rule.original_context = context;
      const std::vector<double> want = InverseFrequencies(table, 1);
      const std::vector<double> have = InverseFrequencies(rule, 1);
      double worst = 0;
      for (size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(have[i] / want[i] - 1));
      if (worst > 1e-5) continue;
      return Json{{"rope_type", "llama3"}, {"factor", factor}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0},
                  {"original_max_position_embeddings", static_cast<int64_t>(context)}};
    }
  }
  return std::nullopt;
}

Json RopeScaling(const RopeTableAttributes& t) {
  if (t.scaling == "none") return nullptr;
  if (t.scaling == "linear") return {{"rope_type", "linear"}, {"factor", t.factor}};
  if (t.scaling == "dynamic") return {{"rope_type", "dynamic"}, {"factor", t.factor}, {"original_max_position_embeddings", t.original_context}};
  if (t.scaling == "llama3") {
    return {{"rope_type", "llama3"}, {"factor", t.factor}, {"low_freq_factor", t.low_freq_factor},
            {"high_freq_factor", t.high_freq_factor}, {"original_max_position_embeddings", t.original_context}};
  }
  if (t.scaling == "yarn") {
    return {{"rope_type", "yarn"}, {"factor", t.factor}, {"original_max_position_embeddings", t.original_context},
            {"beta_fast", t.beta_fast}, {"beta_slow", t.beta_slow}, {"truncate", t.truncate}, {"attention_factor", t.attention_factor}};
  }
  if (t.scaling == "longrope") {
    return {{"rope_type", "longrope"}, {"short_factor", t.factors}, {"long_factor", t.long_factors},
            {"original_max_position_embeddings", t.original_context}, {"attention_factor", t.attention_factor}};
  }
  if (const auto rule = Llama3Rule(t)) return *rule;
  CannotExpress("rope_freqs: these factors follow no published rule");
}

void AddRope(const ModelConfig& c, Json& out) {
  if (c.ropes.empty()) return;
  const RopeTableAttributes& table = c.ropes[0].table;
  out["rope_theta"] = table.theta;
  out["rope_scaling"] = RopeScaling(table);
  if (table.rotary_dim != c.head_dim) out["partial_rotary_factor"] = static_cast<double>(table.rotary_dim) / static_cast<double>(c.head_dim);
  if (c.ropes.size() > 1) out["rope_local_base_freq"] = c.ropes[1].table.theta;
}

void AddWindows(const Architecture& arch, const ModelConfig& c, Json& out) {
  int64_t window = 0;
  Json types = Json::array();
  for (const LayerSpec& layer : c.layers) {
    if (layer.window > 0) window = layer.window;
    types.push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
  }
  if (arch.window == WindowRule::kNone) return;
  out["sliding_window"] = window > 0 ? Json(window) : Json(nullptr);
  if (arch.window == WindowRule::kAll) return;
  if (arch.window != WindowRule::kEveryNthFull) out["use_sliding_window"] = window > 0;
  if (arch.window != WindowRule::kSwitched) out["layer_types"] = types;
}

// Token ids from GGUF metadata, for generation with transformers.
void AddTokenIds(const ModelFile& file, Json& out) {
  for (const auto& [key, meta] : {std::pair{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                  std::pair{"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                  std::pair{"pad_token_id", "tokenizer.ggml.padding_token_id"}}) {
    const MetaValue* value = file.Meta(meta);
    if (value != nullptr && value->AsInt()) out[key] = *value->AsInt();
  }
}

Json FromResolved(const Model& model) {
  const ModelConfig& c = model.config();
  const Architecture& arch = model.architecture();
  Json out = {{"architectures", Json::array({std::string(arch.hf_class)})},
              {"model_type", std::string(arch.name)},
              {"vocab_size", c.vocab_size},
              {"hidden_size", c.hidden_size},
              {"intermediate_size", c.ffn_size},
              {"num_hidden_layers", c.num_layers},
              {"num_attention_heads", c.num_heads},
              {"num_key_value_heads", c.num_kv_heads},
              {"head_dim", c.head_dim},
              {"max_position_embeddings", c.max_positions},
              {c.layer_norm ? "layer_norm_eps" : "rms_norm_eps", c.norm_eps},
              {"hidden_act", HfActivation(c.activation)},
              {"tie_word_embeddings", c.tie_embeddings}};
  if (arch.norm_offset != 0) out["hidden_activation"] = HfActivation(c.activation);
  if (!arch.qkv_bias.key.empty()) out[std::string(arch.qkv_bias.key)] = c.q_bias;
  if (!arch.mlp_bias.key.empty()) out[std::string(arch.mlp_bias.key)] = c.up_bias;
  const double usual = 1 / std::sqrt(static_cast<double>(c.head_dim));
  if (arch.norm_offset != 0 && arch.post_norm) {
    out["query_pre_attn_scalar"] = 1 / (c.attention_scale * c.attention_scale);
    const double rounded = std::round(out["query_pre_attn_scalar"].get<double>());
    if (std::abs(1 / std::sqrt(rounded) - c.attention_scale) < 1e-15) out["query_pre_attn_scalar"] = static_cast<int64_t>(rounded);
  } else if (std::abs(c.attention_scale / usual - 1) > 1e-12) {
    CannotExpress("attention_scale");
  }
  if (arch.own_keys.find("softcapping") != std::string_view::npos) {  // absent would mean the class's default
    out["attn_logit_softcapping"] = c.attention_softcap != 0 ? Json(c.attention_softcap) : Json(nullptr);
    out["final_logit_softcapping"] = c.logit_softcap != 0 ? Json(c.logit_softcap) : Json(nullptr);
  }
  AddRope(c, out);
  AddWindows(arch, c, out);
  AddTokenIds(model.file(), out);
  return out;
}

}  // namespace

Json HfConfig(const Model& model, const std::string& torch_dtype) {
  Json out;
  if (model.file().config() != nullptr) {
    out = *model.file().config();
    out.erase("quantization_config");
    out.erase("dtype");
  } else {
    out = FromResolved(model);
  }
  out["torch_dtype"] = torch_dtype;
  return out;
}

}  // namespace apr
