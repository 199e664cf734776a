// See export_config.h. Key names: transformers configuration_<architecture>.py.
#include "model/export_config.h"

#include <cmath>
#include <tuple>

#include "base/error.h"
#include "base/json.h"
#include "model/config_fields.h"
#include "model/resolve.h"

namespace apr {
namespace {

[[noreturn]] void CannotExpress(const std::string& field) {
  throw Error(ErrorCode::kModelLoad, "config.json cannot express " + field, {.tensor = field});
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

Json Whole(double value) { return value == std::floor(value) ? Json(static_cast<int64_t>(value)) : Json(value); }

Json RopeScaling(const RopeTableAttributes& t) {
  if (t.scaling == "none") return nullptr;
  if (t.scaling == "linear") return {{"rope_type", "linear"}, {"factor", t.factor}};
  if (t.scaling == "dynamic") return {{"rope_type", "dynamic"}, {"factor", t.factor}, {"original_max_position_embeddings", Whole(t.original_context)}};
  if (t.scaling == "llama3") {
    return {{"rope_type", "llama3"}, {"factor", t.factor}, {"low_freq_factor", t.low_freq_factor},
            {"high_freq_factor", t.high_freq_factor}, {"original_max_position_embeddings", Whole(t.original_context)}};
  }
  if (t.scaling == "yarn") {
    return {{"rope_type", "yarn"}, {"factor", t.factor}, {"original_max_position_embeddings", Whole(t.original_context)},
            {"beta_fast", t.beta_fast}, {"beta_slow", t.beta_slow}, {"truncate", t.truncate}, {"attention_factor", t.attention_factor}};
  }
  if (t.scaling == "longrope") {
    return {{"rope_type", "longrope"}, {"short_factor", t.factors}, {"long_factor", t.long_factors},
            {"original_max_position_embeddings", Whole(t.original_context)}, {"attention_factor", t.attention_factor}};
  }
  if (const auto rule = Llama3Rule(t)) return *rule;
  CannotExpress("rope_freqs: these factors follow no published rule");
}

// Spellings of single architectures (transformers configuration_<name>.py); "-": it has no such key.
struct Spelling {
  std::string_view architecture, usual, key;
};
constexpr Spelling kSpellings[] = {
    {"gpt2", "hidden_size", "n_embd"},
    {"gpt2", "num_hidden_layers", "n_layer"},
    {"gpt2", "num_attention_heads", "n_head"},
    {"gpt2", "max_position_embeddings", "n_positions"},
    {"gpt2", "intermediate_size", "n_inner"},
    {"gpt2", "layer_norm_eps", "layer_norm_epsilon"},
    {"gpt2", "hidden_act", "activation_function"},
    {"gpt2", "num_key_value_heads", "-"},
    {"gpt2", "head_dim", "-"},
    {"gpt_neox", "num_key_value_heads", "-"},
    {"gpt_neox", "head_dim", "-"},
    {"starcoder2", "layer_norm_eps", "norm_epsilon"},
    {"starcoder2", "head_dim", "-"},
    {"phi3", "head_dim", "-"},
    {"stablelm", "head_dim", "-"},
    {"deepseek_v2", "head_dim", "-"},
    {"deepseek_v3", "head_dim", "-"},
    {"mixtral", "num_experts", "num_local_experts"},
    {"gpt_oss", "num_experts", "num_local_experts"},
    {"deepseek_v2", "num_experts", "n_routed_experts"},
    {"deepseek_v3", "num_experts", "n_routed_experts"},
};

class Writer {
 public:
  explicit Writer(const Model& model) : model_(model), c_(model.config()), arch_(model.architecture()) {}

  Json Run() {
    out_ = {{"architectures", Json::array({std::string(arch_.hf_class)})}, {"model_type", std::string(arch_.name)}};
    Sizes();
    Features();
    Scales();
    Rope();
    Windows();
    if (c_.moe.experts > 0) Experts();
    if (c_.latent.kv_rank > 0) Latent();
    TokenIds();
    return std::move(out_);
  }

 private:
  void Set(std::string_view usual, Json value) {
    std::string_view key = usual;
    for (const Spelling& row : kSpellings) {
      if (row.architecture == arch_.name && row.usual == usual) key = row.key;
    }
    if (key != "-") out_[std::string(key)] = std::move(value);
  }

  void Sizes() {
    Set("vocab_size", c_.vocab_size);
    Set("hidden_size", c_.hidden_size);
    Set("intermediate_size", c_.ffn_size);
    Set("num_hidden_layers", c_.num_layers);
    Set("num_attention_heads", c_.num_heads);
    Set("num_key_value_heads", c_.num_kv_heads);
    Set("head_dim", c_.head_dim);
    Set("max_position_embeddings", c_.max_positions);
    Set(c_.layer_norm ? "layer_norm_eps" : "rms_norm_eps", c_.norm_eps);
    Set("hidden_act", HfActivation(c_.activation));
    Set("tie_word_embeddings", c_.tie_embeddings);
  }

  void Features() {
    if (arch_.norm_offset != 0) out_["hidden_activation"] = HfActivation(c_.activation);
    const std::pair<std::string_view, bool> flags[] = {{arch_.qkv_bias.key, c_.q_bias}, {arch_.o_bias.key, c_.o_bias},
                                                       {arch_.mlp_bias.key, c_.up_bias}, {arch_.parallel_residual.key, c_.parallel_residual},
                                                       {arch_.qk_norm_rule.key, c_.qk_norm != ModelConfig::QkNorm::kNone}};
    for (const auto& [key, value] : flags) {
      if (!key.empty() && !out_.contains(std::string(key))) out_[std::string(key)] = value;
    }
    if (arch_.name == "gpt2") {
      out_["scale_attn_by_inverse_layer_idx"] = c_.attention_scale_by_layer;
      out_["scale_attn_weights"] = c_.attention_scale != 1;
      out_["n_ctx"] = c_.max_positions;
    }
    if (!arch_.no_rope_layers) return;
    Json rotates = Json::array();
    for (const LayerSpec& layer : c_.layers) rotates.push_back(layer.rope < 0 ? 0 : 1);
    out_["no_rope_layers"] = rotates;
    out_["no_rope_layer_interval"] = 4;
  }

  void Scales() {
    if (arch_.norm_offset != 0 && arch_.post_norm) {
      out_["query_pre_attn_scalar"] = Whole(QueryScalar(c_.attention_scale));
    }
    if (arch_.own_keys.find("softcapping") != std::string_view::npos) {  // absent would mean the class's default
      out_["attn_logit_softcapping"] = c_.attention_softcap != 0 ? Json(c_.attention_softcap) : Json(nullptr);
      out_["final_logit_softcapping"] = c_.logit_softcap != 0 ? Json(c_.logit_softcap) : Json(nullptr);
    }
    if (arch_.name == "granite") {
      out_["attention_multiplier"] = c_.attention_scale;
      out_["embedding_multiplier"] = c_.embedding_scale;
      out_["residual_multiplier"] = c_.residual_scale;
      out_["logits_scaling"] = 1 / c_.logit_scale;
    }
    if (arch_.name == "cohere") out_["logit_scale"] = c_.logit_scale;
    if (c_.qkv_clip != 0) out_["clip_qkv"] = c_.qkv_clip;
    if (c_.swiglu_limit != 0) out_["swiglu_limit"] = c_.swiglu_limit;
    if (c_.swiglu_alpha != 0) out_["swiglu_alpha"] = c_.swiglu_alpha;
  }

  void Rope() {
    if (c_.ropes.empty()) return;
    const RopeTableAttributes& table = c_.ropes[0].table;
    out_["rope_theta"] = table.theta;
    Json scaling = RopeScaling(table);
    if (c_.latent.score_scale != 1) {
      // DeepSeek's two magnitudes: their ratio is that of the angles, the second also scales the scores.
      const double all = (std::sqrt(c_.latent.score_scale) - 1) / (0.1 * std::log(table.factor));
      scaling["mscale_all_dim"] = all;
      scaling["mscale"] = (table.attention_factor * std::sqrt(c_.latent.score_scale) - 1) / (0.1 * std::log(table.factor));
    }
    out_["rope_scaling"] = std::move(scaling);
    if (arch_.name == "phi3") out_["original_max_position_embeddings"] = static_cast<int64_t>(table.scaling == "longrope" ? table.original_context : static_cast<double>(c_.max_positions));
    if (arch_.name == "deepseek_v3") out_["rope_interleave"] = c_.ropes[0].adjacent;
    const double part = static_cast<double>(table.rotary_dim) / static_cast<double>(c_.head_dim);
    if (c_.latent.kv_rank == 0 && (part != 1 || arch_.default_rotary_part != 1)) {
      out_["partial_rotary_factor"] = part;
      if (arch_.name == "gpt_neox") out_["rotary_pct"] = part;
    }
    if (c_.ropes.size() > 1) out_["rope_local_base_freq"] = c_.ropes[1].table.theta;
  }

  void Windows() {
    if (arch_.window == WindowRule::kNone) return;
    int64_t window = 0;
    Json types = Json::array();
    for (const LayerSpec& layer : c_.layers) {
      if (layer.window > 0) window = layer.window;
      types.push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
    }
    out_["sliding_window"] = window > 0 ? Json(window) : Json(nullptr);
    if (arch_.window == WindowRule::kAll) return;
    if (arch_.window != WindowRule::kEveryNthFull) out_["use_sliding_window"] = window > 0;
    if (arch_.window != WindowRule::kSwitched) out_["layer_types"] = types;
  }

  void Experts() {
    const MoeSpec& m = c_.moe;
    Set("num_experts", m.experts);
    out_["num_experts_per_tok"] = m.top_k;
    if (!arch_.expert_ffn_is_intermediate) out_["moe_intermediate_size"] = m.expert_ffn;
    else Set("intermediate_size", m.expert_ffn);
    if (!arch_.moe_normalize.key.empty()) out_[std::string(arch_.moe_normalize.key)] = m.normalize;
    if (m.shared_gated) out_["shared_expert_intermediate_size"] = m.shared_ffn;
    Json dense = Json::array();
    int64_t leading = 0;
    for (size_t i = 0; i < c_.layers.size(); ++i) {
      if (!c_.layers[i].moe) dense.push_back(i);
      if (!c_.layers[i].moe && leading == static_cast<int64_t>(i)) ++leading;
    }
    if (arch_.moe == MoeRule::kSparseStep) {
      out_["decoder_sparse_step"] = 1;
      out_["mlp_only_layers"] = dense;
    }
    if (arch_.moe != MoeRule::kAfterDense) return;
    out_["first_k_dense_replace"] = leading;
    out_["n_shared_experts"] = m.shared_ffn / m.expert_ffn;
    out_["routed_scaling_factor"] = m.scaling;
    out_["norm_topk_prob"] = m.normalize;
    out_["n_group"] = m.groups;
    out_["topk_group"] = m.top_groups;
    if (!m.group_by_top2) out_["topk_method"] = m.groups > 1 ? "group_limited_greedy" : "greedy";
  }

  void Latent() {
    const LatentSpec& m = c_.latent;
    out_["q_lora_rank"] = m.q_rank > 0 ? Json(m.q_rank) : Json(nullptr);
    out_["kv_lora_rank"] = m.kv_rank;
    out_["qk_nope_head_dim"] = m.nope_dim;
    out_["qk_rope_head_dim"] = m.rope_dim;
    out_["v_head_dim"] = c_.v_head_dim;
  }

  // For generation with transformers.
  void TokenIds() {
    for (const auto& [key, gguf, apr] : {std::tuple{"bos_token_id", "tokenizer.ggml.bos_token_id", "tokenizer.bos_token_id"},
                                         std::tuple{"eos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.eos_token_id"},
                                         std::tuple{"pad_token_id", "tokenizer.ggml.padding_token_id", "tokenizer.padding_token_id"}}) {
      const MetaValue* value = model_.file().Meta(gguf);
      if (value == nullptr) value = model_.file().Meta(apr);
      // transformers fills in ids of its own where the file says nothing.
      out_[key] = value != nullptr && value->AsInt() ? Json(*value->AsInt()) : Json(nullptr);
    }
  }

  const Model& model_;
  const ModelConfig& c_;
  const Architecture& arch_;
  Json out_;
};

// The configuration as a reader of `config` would resolve it must be the model's.
void RequireSame(const Model& model, const Json& config) {
  ModelFileParts parts{.container = Container::kSafetensors, .path = "config.json"};
  parts.config = std::make_shared<const Json>(config);
  const ModelConfig resolved = ResolveConfig(ModelFile(std::move(parts))).config;
  for (const FieldDifference& d : DifferingFields(model.config(), resolved)) {
    // A set of factors that follows a published rule is written as that rule.
    if (model.config().ropes[0].table.scaling == "factors" && d.name.rfind("rope_", 0) == 0) continue;
    throw Error(ErrorCode::kModelLoad, "config.json cannot express " + d.name + " = " + d.a + ": a reader would take " + d.b, {.tensor = d.name});
  }
}

}  // namespace

std::string HfActivation(const std::string& kind) { return kind == "gelu_tanh" ? "gelu_pytorch_tanh" : kind; }

double QueryScalar(double attention_scale) {
  const double exact = 1 / (attention_scale * attention_scale);
  const double whole = std::round(exact);
  return std::abs(std::sqrt(whole) * attention_scale - 1) < 1e-14 ? whole : exact;
}

Json HfConfig(const Model& model, const std::string& torch_dtype) {
  Json out;
  if (model.file().config() != nullptr) {
    out = *model.file().config();
    for (const char* packing : {"quantization_config", "quantization"}) out.erase(packing);
    out.erase("dtype");
  } else {
    out = Writer(model).Run();
    RequireSame(model, out);
  }
  out["torch_dtype"] = torch_dtype;
  return out;
}

}  // namespace apr
