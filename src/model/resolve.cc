// See resolve.h. Order of resolution: sizes, norms and biases, feed-forward, positions, scales.
#include "model/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "model/class_defaults.h"
#include "model/config_reader.h"
#include "model/inventory.h"
#include "model/resolve_moe.h"
#include "model/resolve_rope.h"
#include "model/unread_keys.h"

namespace apr {
namespace {

// Sizes beyond these are no model but a broken or hostile file.
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxWidth = int64_t{1} << 24;
constexpr int64_t kMaxVocab = int64_t{1} << 28;
constexpr int64_t kMaxPositions = int64_t{1} << 40;

const ConfigKey kHidden{"hidden_size|n_embd|d_model", "embedding_length",
                        "hidden_size|hidden_dim|d_model|n_embd|model.hidden_size"};
const ConfigKey kLayers{"num_hidden_layers|n_layer|num_layers", "block_count",
                        "num_layers|n_layers|num_hidden_layers|n_layer|model.num_layers"};
const ConfigKey kHeads{"num_attention_heads|n_head", "attention.head_count",
                       "num_heads|n_heads|num_attention_heads|n_head|model.num_heads"};
const ConfigKey kKvHeads{"num_key_value_heads", "attention.head_count_kv",
                         "num_kv_heads|n_kv_heads|num_key_value_heads|model.num_kv_heads"};
const ConfigKey kVocab{"vocab_size", "vocab_size", "vocab_size|n_vocab|model.vocab_size"};
const ConfigKey kFfn{"intermediate_size|n_inner|ffn_dim", "feed_forward_length",
                     "intermediate_size|ffn_dim|intermediate_dim|n_inner|model.intermediate_size"};
const ConfigKey kPositions{"max_position_embeddings|n_positions|n_ctx", "context_length",
                           "max_position_embeddings|max_seq_len|context_length|n_ctx|model.max_position_embeddings"};
const ConfigKey kHeadDim{"head_dim", "attention.key_length", "head_dim"};
const ConfigKey kValueDim{"v_head_dim", "attention.value_length", "v_head_dim"};
const ConfigKey kEps{"rms_norm_eps|layer_norm_eps|layer_norm_epsilon|norm_epsilon",
                     "attention.layer_norm_rms_epsilon|attention.layer_norm_epsilon",
                     "rms_norm_eps|layer_norm_eps|norm_eps|model.rms_norm_eps"};
const ConfigKey kTie{"tie_word_embeddings", {}, "tied_embeddings|tie_word_embeddings"};
const ConfigKey kWindow{"sliding_window", "attention.sliding_window"};
const ConfigKey kWindowPattern{"sliding_window_pattern|_sliding_window_pattern", "attention.sliding_window_pattern"};
const ConfigKey kLayerTypes{"layer_types"};
const ConfigKey kUseWindow{"use_sliding_window"};
const ConfigKey kMaxWindowLayers{"max_window_layers"};
const ConfigKey kQueryScalar{"query_pre_attn_scalar"};
const ConfigKey kAttentionScale{"attention_multiplier", "attention.scale"};
const ConfigKey kEmbeddingScale{"embedding_multiplier", "embedding_scale"};
const ConfigKey kResidualScale{"residual_multiplier", "residual_scale"};
const ConfigKey kQkvClip{"clip_qkv", "attention.clamp_kqv"};
const ConfigKey kLogitDivisor{"logits_scaling"};
const ConfigKey kLogitScale{"logit_scale", "logit_scale"};
const ConfigKey kAttentionSoftcap{"attn_logit_softcapping", "attn_logit_softcapping"};
const ConfigKey kLogitSoftcap{"final_logit_softcapping", "final_logit_softcapping"};

class Resolver {
 public:
  Resolver(const ModelFile& file, const Architecture& arch, ModelConfig& config)
      : file_(file), arch_(arch), c_(config), reader_(file, config, ClassDefaults(arch.name)) {}

  void Run() {
    c_.architecture = arch_.name;
    reader_.Ignore("apr.model_type");
    reader_.IgnoreGguf("expert_gating_func");
    reader_.NoteRule("architecture", c_.architecture, "model_type / general.architecture");
    Sizes();
    NormsAndBiases();
    FeedForward();
    Windows();
    ResolveMoe(reader_, arch_, c_);
    ResolveRopes(reader_, arch_, c_);
    Scales();
    c_.unread_keys = reader_.UnreadKeys();
    RefuseUnread();
  }

 private:
  // Never computed as if the key were not there.
  void RefuseUnread() const {
    const std::vector<std::string> keys = KeysThatMatter(file_, arch_.name, c_.unread_keys);
    if (keys.empty()) return;
    Refuse(keys[0], fmt::format("architecture {} does not know this configuration key, which may change what the model computes "
                                "(without it in the file the model is computed as if it had no effect)", arch_.name));
  }

  bool TensorExists(Slot slot) const {
    for (const TensorRule& rule : file_.container() == Container::kGguf ? arch_.gguf_names : arch_.hf) {
      if (std::find(rule.slots.begin(), rule.slots.end(), slot) == rule.slots.end()) continue;
      if (FindTensor(file_, ExpandName(rule.name, 0, 0)) != nullptr) return true;
    }
    return false;
  }

  int64_t Size(const char* field, const ConfigKey& key, int64_t limit) {
    const int64_t value = reader_.RequiredSize(key, limit);
    reader_.Note(field, value);
    return value;
  }

  // `key` if the file has it, else `fallback` by `rule`.
  int64_t SizeOr(const char* field, const ConfigKey& key, int64_t limit, int64_t fallback, const char* rule) {
    if (reader_.Has(key)) return Size(field, key, limit);
    reader_.NoteRule(field, std::to_string(fallback), rule);
    return fallback;
  }

  void Sizes() {
    c_.hidden_size = Size("hidden_size", kHidden, kMaxWidth);
    c_.num_layers = Size("num_layers", kLayers, kMaxLayers);
    c_.num_heads = Size("num_heads", kHeads, kMaxWidth);
    c_.max_positions = Size("max_positions", kPositions, kMaxPositions);
    if (arch_.latent_attention) ResolveLatent(reader_, c_);
    else HeadSizes();
    Vocabulary();
  }

  void HeadSizes() {
    c_.num_kv_heads = SizeOr("num_kv_heads", kKvHeads, kMaxWidth, c_.num_heads, "num_heads");
    if (arch_.single_kv_per_head && c_.num_kv_heads != c_.num_heads) {
      c_.num_kv_heads = c_.num_heads;
      reader_.NoteRule("num_kv_heads", std::to_string(c_.num_heads), "this architecture has no shared key/value heads");
    }
    if (c_.num_heads % c_.num_kv_heads != 0) {
      Refuse("num_key_value_heads", fmt::format("{} heads cannot share {} key/value heads", c_.num_heads, c_.num_kv_heads));
    }
    if (!reader_.Has(kHeadDim) && c_.hidden_size % c_.num_heads != 0) {
      Refuse("head_dim", "hidden_size is no multiple of num_heads and head_dim is not given");
    }
    c_.head_dim = SizeOr("head_dim", kHeadDim, kMaxWidth, c_.hidden_size / c_.num_heads, "hidden_size / num_heads");
    c_.v_head_dim = SizeOr("v_head_dim", kValueDim, kMaxWidth, c_.head_dim, "head_dim");
  }

  // GGUF often has no vocab_size; the embedding's rows then say it.
  void Vocabulary() {
    if (reader_.Has(kVocab)) {
      c_.vocab_size = Size("vocab_size", kVocab, kMaxVocab);
      return;
    }
    const TensorInfo* embedding = file_.Find("token_embd.weight");
    if (embedding == nullptr || embedding->shape.ndim() != 2) Refuse("vocab_size", "is missing");
    c_.vocab_size = embedding->shape[0];
    reader_.NoteRule("vocab_size", std::to_string(c_.vocab_size), "rows of token_embd.weight");
  }

  bool Bias(const char* field, const FeatureRule& rule, Slot slot) {
    if (reader_.is_gguf() || reader_.is_apr()) {
      const bool present = TensorExists(slot);
      reader_.NoteRule(field, present ? "true" : "false", "the file has the tensor or not");
      return present;
    }
    if (!rule.key.empty()) {
      if (const auto value = reader_.Bool({rule.key})) {
        reader_.Note(field, *value ? "true" : "false", reader_.last_origin());
        return *value;
      }
    }
    reader_.NoteRule(field, rule.present ? "true" : "false", "the architecture");
    return rule.present;
  }

  void NormsAndBiases() {
    c_.layer_norm = arch_.layer_norm;
    c_.norm_offset = arch_.norm_offset;
    c_.norm_has_bias = arch_.norm_has_bias;
    c_.pre_norm = arch_.pre_norm;
    c_.post_norm = arch_.post_norm;
    c_.learned_positions = arch_.learned_positions;
    c_.attention_sinks = arch_.attention_sinks;
    QkNorms();
    c_.parallel_residual = Feature("parallel_residual", arch_.parallel_residual, "use_parallel_residual");
    c_.shared_parallel_norm = arch_.shared_parallel_norm;
    c_.norm_eps = reader_.RequiredReal(kEps);
    reader_.Note("norm_eps", c_.norm_eps);
    if (arch_.latent_attention) {
      c_.latent.down_bias = Bias("latent_down_bias", arch_.qkv_bias, Slot::kKvDownBias);
    } else {
      c_.q_bias = Bias("q_bias", arch_.qkv_bias, Slot::kQBias);
      c_.k_bias = Bias("k_bias", arch_.qkv_bias, Slot::kKBias);
      c_.v_bias = Bias("v_bias", arch_.qkv_bias, Slot::kVBias);
    }
    c_.o_bias = Bias("o_bias", arch_.o_bias, Slot::kOBias);
    const bool mlp = Bias("mlp_bias", arch_.mlp_bias, Slot::kDownBias);
    c_.gate_bias = mlp && arch_.mlp == MlpKind::kGated;
    c_.up_bias = mlp;
    c_.down_bias = mlp;
    TieFlag();
  }

  // A feature that config.json switches by the rule's key and GGUF by `gguf_key`.
  bool Feature(const char* field, const FeatureRule& rule, std::string_view gguf_key) {
    if (!rule.key.empty()) {
      if (const auto value = reader_.Bool({rule.key, gguf_key})) {
        reader_.Note(field, *value ? "true" : "false", reader_.last_origin());
        return *value;
      }
    }
    reader_.NoteRule(field, rule.present ? "true" : "false", "the architecture");
    return rule.present;
  }

  void QkNorms() {
    using Kind = ModelConfig::QkNorm;
    c_.qk_norm = arch_.qk_norm;
    if (arch_.qk_norm == Kind::kNone) return;
    const bool on = reader_.is_gguf() ? TensorExists(Slot::kQNorm) : Feature("qk_norm", arch_.qk_norm_rule, "");
    if (!on) c_.qk_norm = Kind::kNone;
    c_.qk_norm_layer = arch_.layer_norm;
  }

  void TieFlag() {
    if (reader_.is_gguf()) {
      c_.tie_embeddings = !TensorExists(Slot::kHead);
      reader_.NoteRule("tie_embeddings", c_.tie_embeddings ? "true" : "false", "output.weight is absent or not");
      return;
    }
    if (const auto flag = reader_.Bool(kTie)) {
      c_.tie_embeddings = *flag;
      reader_.Note("tie_embeddings", *flag ? "true" : "false", reader_.last_origin());
      return;
    }
    c_.tie_embeddings = arch_.tie_default || !TensorExists(Slot::kHead);
    reader_.NoteRule("tie_embeddings", c_.tie_embeddings ? "true" : "false",
                     arch_.tie_default ? "the architecture's default" : "lm_head.weight is absent or not");
  }

  // transformers' names for the non-linearities (activations.py) as this project spells them.
  std::string ActivationName(const std::string& name) const {
    static constexpr std::pair<const char*, const char*> kNames[] = {
        {"silu", "silu"}, {"swish", "silu"}, {"gelu_pytorch_tanh", "gelu_tanh"}, {"gelu_new", "gelu_tanh"},
        {"gelu_fast", "gelu_tanh"}, {"gelu", "gelu"}, {"gelu_python", "gelu"}, {"quick_gelu", "quick_gelu"},
        {"relu", "relu"}, {"relu2", "relu2"}, {"gelu_tanh", "gelu_tanh"}};
    for (const auto& [from, to] : kNames) {
      if (name == from) return to;
    }
    Refuse("hidden_act", "unknown activation '" + name + "'");
  }

  void FeedForward() {
    c_.ffn_size = SizeOr("ffn_size", kFfn, kMaxWidth, 4 * c_.hidden_size, "4 hidden_size");
    c_.mlp = arch_.mlp;
    if (!arch_.dead_activation_key.empty()) reader_.Ignore(arch_.dead_activation_key);
    if (const auto name = reader_.Text({arch_.activation_key})) {
      c_.activation = arch_.gelu_means_tanh && *name == "gelu" ? "gelu_tanh" : ActivationName(*name);
      reader_.Note("activation", c_.activation, reader_.last_origin());
    } else {
      c_.activation = arch_.activation;
      reader_.NoteRule("activation", c_.activation, "the architecture");
    }
  }

  void Windows() {
    c_.layers.resize(static_cast<size_t>(c_.num_layers));
    if (arch_.no_rope_layers) ResolveNoRopeLayers(reader_, c_);
    std::optional<int64_t> window = reader_.Int(kWindow);
    const std::string origin = reader_.last_origin();
    const std::optional<std::vector<std::string>> types = LayerTypes();
    // With a list of layer types the pattern repeats what the list says.
    std::optional<std::vector<double>> flags;
    if (reader_.IsList(kWindowPattern)) flags = reader_.Reals(kWindowPattern);
    else if (types) reader_.Int(kWindowPattern);
    if (WindowsOff() || !window || *window <= 0) window = 0;
    if (types && static_cast<int64_t>(types->size()) != c_.num_layers) {
      Refuse("layer_types", fmt::format("has {} entries for {} layers", types->size(), c_.num_layers));
    }
    if (flags && static_cast<int64_t>(flags->size()) != c_.num_layers) {
      Refuse("sliding_window_pattern", fmt::format("has {} entries for {} layers", flags->size(), c_.num_layers));
    }
    std::string windowed;
    for (int64_t i = 0; i < c_.num_layers; ++i) {
      if (*window == 0) continue;
      if (flags && !types ? (*flags)[static_cast<size_t>(i)] == 0 : !IsWindowed(i, types)) continue;
      c_.layers[static_cast<size_t>(i)].window = *window;
      windowed += fmt::format("{}{}", windowed.empty() ? "" : ",", i);
    }
    if (windowed.empty()) {
      reader_.NoteRule("sliding_window", "none", "no layer uses one");
    } else {
      reader_.Note("sliding_window", std::to_string(*window), origin);
      reader_.Note("sliding_window_layers", windowed, types ? "config.json: layer_types" : "rule: the architecture's pattern");
    }
  }

  // Some writers keep the size in the file although no layer uses it.
  bool WindowsOff() {
    switch (arch_.window) {
      case WindowRule::kNone: return true;
      case WindowRule::kAll:
      case WindowRule::kEveryNthFull: return false;
      default: return !reader_.is_gguf() && !reader_.Bool(kUseWindow).value_or(false);
    }
  }

  // nullopt where the file has none or the model's code does not read them.
  std::optional<std::vector<std::string>> LayerTypes() {
    const auto types = reader_.Texts(kLayerTypes);
    const bool read = arch_.window != WindowRule::kAll && arch_.window != WindowRule::kSwitched && arch_.window != WindowRule::kNone;
    if (!types || !read) return std::nullopt;
    if (static_cast<int64_t>(types->size()) != c_.num_layers) {
      Refuse("layer_types", fmt::format("has {} entries for {} layers", types->size(), c_.num_layers));
    }
    return types;
  }

  bool IsWindowed(int64_t layer, const std::optional<std::vector<std::string>>& types) {
    if (types) {
      const std::string& type = (*types)[static_cast<size_t>(layer)];
      if (type == "sliding_attention") return true;
      if (type == "full_attention") return false;
      Refuse("layer_types", "unknown attention type '" + type + "'");
    }
    switch (arch_.window) {
      case WindowRule::kNone: return false;
      case WindowRule::kAll:
      case WindowRule::kSwitched: return true;
      case WindowRule::kQwen: return layer >= reader_.Int(kMaxWindowLayers).value_or(0);
      case WindowRule::kQwen2Moe: return layer % 2 == 0 && layer < reader_.Int(kMaxWindowLayers).value_or(0);
      case WindowRule::kWithoutRope: return c_.layers[static_cast<size_t>(layer)].rope < 0;
      case WindowRule::kEveryNthFull: return (layer + 1) % Pattern() != 0;
    }
    return false;
  }

  int64_t Pattern() {
    const int64_t pattern = reader_.Int(kWindowPattern).value_or(arch_.window_pattern);
    if (pattern < 1) Refuse("sliding_window_pattern", "must be positive");
    return pattern;
  }

  // Whether the architecture's configuration class knows a key that only some have.
  bool Knows(const ConfigKey& key) const {
    if (file_.container() != Container::kSafetensors) return true;
    std::string_view rest = arch_.own_keys;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('|'), rest.size());
      if (rest.substr(0, end) == key.hf) return true;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return false;
  }

  double RealOr(const char* field, const ConfigKey& key, double fallback, const char* rule) {
    if (!Knows(key)) return fallback;
    if (const auto value = reader_.Real(key)) {
      if (!std::isfinite(*value)) Refuse(field, "is not finite");
      reader_.Note(field, *value);
      return *value;
    }
    reader_.NoteRule(field, fmt::format("{}", fallback), rule);
    return fallback;
  }

  void Scales() {
    const double head = static_cast<double>(c_.head_dim);
    const ConfigKey scaled{"scale_attn_weights"};
    const ConfigKey by_layer{"scale_attn_by_inverse_layer_idx"};
    const bool unscaled = Knows(scaled) && !reader_.Bool(scaled).value_or(true);
    c_.attention_scale_by_layer = Knows(by_layer) && reader_.Bool(by_layer).value_or(false);
    c_.qkv_clip = RealOr("qkv_clip", kQkvClip, 0, "none");
    if (unscaled) {
      c_.attention_scale = 1;
      reader_.Note("attention_scale", "1", "config.json: scale_attn_weights");
    } else if (const auto scalar = Knows(kQueryScalar) ? reader_.Real(kQueryScalar) : std::nullopt) {
      if (!(*scalar > 0)) Refuse("query_pre_attn_scalar", "must be positive");
      c_.attention_scale = 1 / std::sqrt(*scalar);
      reader_.Note("attention_scale", fmt::format("{}", c_.attention_scale), reader_.last_origin());
    } else {
      c_.attention_scale = RealOr("attention_scale", kAttentionScale, 1 / std::sqrt(head), "1 / sqrt(head_dim)");
    }
    c_.attention_scale *= c_.latent.score_scale;
    c_.attention_softcap = RealOr("attention_softcap", kAttentionSoftcap, 0, "none");
    c_.logit_softcap = RealOr("logit_softcap", kLogitSoftcap, 0, "none");
    c_.residual_scale = RealOr("residual_scale", kResidualScale, 1, "1");
    c_.logit_scale = RealOr("logit_scale", kLogitScale, 1, "1");
    LogitDivisor();
    c_.embedding_scale = RealOr("embedding_scale", kEmbeddingScale, 1, "1");
    if (arch_.scale_embedding_by_sqrt_hidden) {
      c_.embedding_scale = std::sqrt(static_cast<double>(c_.hidden_size));
      reader_.NoteRule("embedding_scale", fmt::format("{}", c_.embedding_scale), "sqrt(hidden_size)");
    }
  }

  // Granite divides its logits; its GGUF files keep the divisor under logit_scale.
  void LogitDivisor() {
    if (arch_.name != "granite") return;
    const double divisor = reader_.Real(kLogitDivisor).value_or(c_.logit_scale);
    if (divisor == 0) Refuse("logits_scaling", "must not be 0");
    c_.logit_scale = 1 / divisor;
    reader_.Note("logit_scale", fmt::format("1 / {}", divisor), reader_.last_origin());
  }

  [[noreturn]] void Refuse(std::string key, std::string why) const {
    throw Error(ErrorCode::kModelLoad, key + ": " + why, {.file = file_.path(), .tensor = key});
  }

  const ModelFile& file_;
  const Architecture& arch_;
  ModelConfig& c_;
  ConfigReader reader_;
};

std::string ModelTypeOf(const ModelFile& file) {
  if (file.container() == Container::kGguf) {
    const MetaValue* name = file.Meta("general.architecture");
    const auto text = name != nullptr ? name->AsString() : std::nullopt;
    if (!text) throw Error(ErrorCode::kModelLoad, "general.architecture is missing", {.file = file.path()});
    return std::string(*text);
  }
  if (file.container() == Container::kApr) {
    for (const char* key : {"hf_model_type", "architecture", "model.architecture"}) {
      if (const MetaValue* name = file.Meta(key); name != nullptr && name->AsString()) return std::string(*name->AsString());
    }
    throw Error(ErrorCode::kModelLoad, "the metadata names no architecture", {.file = file.path()});
  }
  if (file.config() == nullptr) {
    throw Error(ErrorCode::kModelLoad, "no config.json beside the weights: not a model that can be run", {.file = file.path()});
  }
  const auto it = file.config()->find("model_type");
  if (it == file.config()->end() || !it->is_string()) {
    throw Error(ErrorCode::kModelLoad, "model_type is missing", {.file = file.folder() + "/config.json", .tensor = "model_type"});
  }
  return it->get<std::string>();
}

}  // namespace

ResolvedConfig ResolveConfig(const ModelFile& file) {
  const std::string type = ModelTypeOf(file);
  const Architecture* arch = nullptr;
  if (file.container() == Container::kGguf) {
    // Several architectures share one GGUF name; the exporter says which it was.
    const MetaValue* exact_type = file.Meta("apr.model_type");
    if (exact_type != nullptr && exact_type->AsString()) arch = FindByModelType(*exact_type->AsString());
    const auto number = [&](const char* key) {
      const MetaValue* value = file.Meta(type + key);
      return value == nullptr ? 0 : value->AsInt().value_or(0);
    };
    constexpr int64_t kSigmoid = 2;  // llama.cpp: LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID
    if (arch == nullptr) arch = FindByGgufName(type, number(".expert_count") > 0);
    // DeepSeek's two generations share a name; how experts are scored tells them apart.
    for (const Architecture& other : AllArchitectures()) {
      if (exact_type == nullptr && other.gguf == type && number(".expert_gating_func") == kSigmoid && other.moe_scoring == "sigmoid") arch = &other;
    }
    // Llama and Mistral share a name too: a file that states a window is of the one that has windows.
    if (exact_type == nullptr && arch != nullptr && arch->window == WindowRule::kNone && number(".attention.sliding_window") > 0) {
      for (const Architecture& other : AllArchitectures()) {
        if (other.gguf == type && other.moe == arch->moe && other.window != WindowRule::kNone) arch = &other;
      }
    }
  } else {
    arch = FindByModelType(type);
  }
  if (arch == nullptr) {
    throw Error(ErrorCode::kModelLoad, fmt::format("unknown architecture '{}'; `apr architectures` lists the known ones", type),
                {.file = file.path()});
  }
  ResolvedConfig out;
  out.architecture = arch;
  Resolver(file, *arch, out.config).Run();
  return out;
}

}  // namespace apr
