// See resolve_rope.h. Source: transformers src/transformers/modeling_rope_utils.py and
// configuration classes; llama.cpp src/llama-model.cpp (load_hparams) for GGUF.
#include "model/resolve_rope.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "base/error.h"
#include "base/json.h"

namespace apr {
namespace {

// The spellings of one rope parameter: older files keep it in rope_scaling, newer ones in
// rope_parameters, some of them once per layer type.
class RopeKeys {
 public:
  explicit RopeKeys(std::string layer_type) : layer_type_(std::move(layer_type)) {}

  std::string Of(const std::string& name) const {
    const std::string common = "rope_parameters." + name + "|rope_scaling." + name;
    if (layer_type_.empty()) return common;
    const std::string own = "rope_parameters." + layer_type_ + "." + name;
    // Older files scale the full layers alone.
    return layer_type_ == "sliding_attention" ? own : own + "|" + common;
  }

 private:
  std::string layer_type_;
};

class RopeResolver {
 public:
  RopeResolver(ConfigReader& reader, const Architecture& arch, ModelConfig& config, std::string layer_type)
      : reader_(reader), arch_(arch), c_(config), keys_(layer_type), local_(layer_type == "sliding_attention") {
    field_ = local_ ? "rope_local" : "rope";
  }

  RopeSpec Resolve() {
    RotaryDim();
    Theta();
    // A GGUF of this program says under apr.* what the standard keys cannot.
    const std::string exact = keys_.Of("rope_type");
    if (reader_.is_gguf() && !reader_.Has({exact})) ScalingFromGguf();
    else ScalingFromConfig();
    if (reader_.is_gguf()) ReadStandardScaling();
    reader_.Note(field_ + "_scaling", out_.table.scaling, scaling_origin_);
    return out_;
  }

 private:
  std::optional<double> Real(const std::string& name, const char* gguf = "") {
    return reader_.Real({keys_.Of(name), gguf});
  }
  double Required(const std::string& name) {
    const std::optional<double> value = Real(name);
    if (value && std::isfinite(*value) && *value > 0) return *value;
    Refuse(name, "is missing or not positive, but the rope scaling needs it");
  }
  // 0 counts as absent.
  double NonZero(const std::string& name, double fallback) {
    const double value = Real(name).value_or(0);
    return value == 0 ? fallback : value;
  }
  [[noreturn]] void Refuse(const std::string& key, const std::string& why) const {
    throw Error(ErrorCode::kModelLoad, key + ": " + why, {.file = reader_.file().path(), .tensor = key});
  }

  void RotaryDim() {
    const std::string factor_keys = keys_.Of("partial_rotary_factor") + "|partial_rotary_factor|rotary_pct";
    // A GGUF that is silent means the whole head (llama.cpp).
    int64_t dim = static_cast<int64_t>(static_cast<double>(c_.head_dim) * (reader_.is_gguf() ? 1 : arch_.default_rotary_part));
    std::string origin = "rule: the architecture's part of head_dim";
    out_.adjacent = arch_.adjacent_rope;
    if (c_.latent.kv_rank > 0) {
      out_.table.rotary_dim = c_.latent.rope_dim;
      out_.halves_out = arch_.name == "deepseek_v3" && reader_.Bool({"rope_interleave"}).value_or(true);
      if (arch_.name == "deepseek_v3") out_.adjacent = out_.halves_out;
      return;
    }
    if (const auto factor = reader_.Real({factor_keys})) {
      const double elements = static_cast<double>(c_.head_dim) * *factor;  // the whole part counts
      if (!(*factor > 0 && elements < static_cast<double>(c_.head_dim) + 1)) Refuse("partial_rotary_factor", fmt::format("{} is not a part of a head", *factor));
      dim = static_cast<int64_t>(elements);
      origin = reader_.last_origin();
    } else if (const auto given = reader_.Int({"rotary_dim", "rope.dimension_count"})) {
      dim = *given;
      origin = reader_.last_origin();
    }
    // transformers' classes that take the width from the table of cosines rotate one element more than an odd number,
    // with frequencies of the odd one: ThetaOfOddPart.
    odd_part_ = dim > 0 && dim % 2 != 0 && !reader_.is_gguf() && (arch_.name == "gpt_neox" || arch_.name == "phi3");
    if (odd_part_) ++dim;
    if (dim < 2 || dim % 2 != 0 || dim > c_.head_dim) {
      Refuse("partial_rotary_factor", fmt::format("{} of {} elements of a head cannot rotate", dim, c_.head_dim));
    }
    out_.table.rotary_dim = dim;
    reader_.Note(field_ + "_dim", std::to_string(dim), origin);
  }

  void Theta() {
    ConfigKey key{};
    const std::string nested = keys_.Of("rope_theta");
    std::string hf = nested + "|rope_theta|rotary_emb_base";
    std::string gguf = "rope.freq_base";
    if (local_) {
      hf = "rope_local_base_freq|rope_parameters.sliding_attention.rope_theta";
      gguf = "rope.freq_base_swa";
    }
    key.hf = hf;
    key.gguf = gguf;
    if (!local_) key.apr = "rope_theta|model.rope_theta";
    if (const auto theta = reader_.Real(key)) {
      out_.table.theta = *theta;
      reader_.Note(field_ + "_theta", fmt::format("{}", *theta), reader_.last_origin());
    } else if (local_) {
      out_.table.theta = arch_.local_rope_theta;
      reader_.NoteRule((field_ + "_theta").c_str(), fmt::format("{}", out_.table.theta), "the architecture's windowed layers");
    } else {
      // What the configuration class takes where the file is silent (llama.cpp: 10000); said aloud.
      out_.table.theta = reader_.is_gguf() ? 10000 : arch_.default_rope_theta;
      reader_.NoteRule("rope_theta", fmt::format("{}", out_.table.theta), "the file does not say; the default of the architecture");
    }
    if (!(out_.table.theta > 0) || !std::isfinite(out_.table.theta)) Refuse("rope_theta", "must be positive");
    if (odd_part_) ThetaOfOddPart();
  }

  // theta^(-2 i / (dim - 1)) = theta'^(-2 i / dim). The scalings that look at more than frequencies are refused.
  void ThetaOfOddPart() {
    const auto dim = static_cast<double>(out_.table.rotary_dim);
    out_.table.theta = std::pow(out_.table.theta, dim / (dim - 1));
    reader_.NoteRule((field_ + "_theta").c_str(), fmt::format("{}", out_.table.theta),
                     fmt::format("frequencies of {} elements, of which {} rotate", dim - 1, dim));
  }

  void ScalingFromConfig() {
    // Gemma 3's older files: rope_scaling is for the full layers, windowed ones have none.
    if (local_ && !reader_.Has({"rope_parameters.sliding_attention.rope_type"})) return;
    const std::string type_keys = keys_.Of("rope_type") + "|" + keys_.Of("type");
    std::string kind = reader_.Text({type_keys}).value_or("default");
    const std::string kind_origin = reader_.last_origin();
    OriginalContext();  // some scalings have no use for the key, but it is not unknown either
    if (kind == "default") {
      scaling_origin_ = "rule: no scaling";
      return;
    }
    scaling_origin_ = kind_origin;
    if (kind == "su" || (arch_.name == "phi3" && kind == "yarn")) kind = "longrope";  // older names
    out_.table.scaling = kind;
    if (kind == "linear") out_.table.factor = Required("factor");
    else if (odd_part_ && (kind == "dynamic" || kind == "yarn")) Refuse("partial_rotary_factor", OddPart(kind));
    else if (kind == "dynamic") Dynamic();
    else if (kind == "llama3") Llama3();
    else if (kind == "yarn") Yarn();
    else if (kind == "longrope") LongRope();
    else Refuse("rope_type", "unknown rope scaling '" + kind + "'");
  }

  // transformers (5.x, modeling_rope_utils.py) fails as well: its ramp has dim // 2 values for the (dim + 1) / 2 frequencies.
  static std::string OddPart(const std::string& kind) {
    return kind == "yarn" ? "YaRN is not defined for an odd number of rotating elements (transformers has one value fewer in the ramp than frequencies, and fails)"
                          : "an odd number of rotating elements with this scaling is not supported";
  }

  double OriginalContext() {
    // The class that has this key of its own (Phi-3) prefers it to the one inside the rope parameters.
    std::string keys = keys_.Of("original_max_position_embeddings");
    keys = arch_.name == "phi3" ? "original_max_position_embeddings|" + keys : keys + "|original_max_position_embeddings";
    return reader_.Real({keys, "rope.scaling.original_context_length"}).value_or(static_cast<double>(c_.max_positions));
  }

  // Counts from max_position_embeddings, whatever original_max_position_embeddings says.
  void Dynamic() {
    out_.table.factor = Required("factor");
    OriginalContext();
    out_.table.original_context = static_cast<double>(c_.max_positions);
  }

  void Llama3() {
    out_.table.factor = Required("factor");
    out_.table.low_freq_factor = Required("low_freq_factor");
    out_.table.high_freq_factor = Required("high_freq_factor");
    out_.table.original_context = OriginalContext();
    if (!(out_.table.low_freq_factor < out_.table.high_freq_factor)) {
      Refuse("high_freq_factor", "must exceed low_freq_factor");
    }
  }

  // YaRN's magnitude factor: 0.1 m ln(s) + 1 (arXiv 2309.00071, eq. 22); DeepSeek divides two of them.
  static double YarnMagnitude(double scale, double m) {
    return scale <= 1 ? 1 : 0.1 * m * std::log(scale) + 1;
  }

  void Yarn() {
    out_.table.original_context = OriginalContext();
    // Without a factor: by how much the context grew (transformers, for DeepSeek-V3).
    out_.table.factor = Real("factor") ? Required("factor") : static_cast<double>(c_.max_positions) / out_.table.original_context;
    out_.table.beta_fast = NonZero("beta_fast", 32);
    out_.table.beta_slow = NonZero("beta_slow", 1);
    // transformers looks for it beside the layer types, not inside one.
    out_.table.truncate = reader_.Bool({"rope_parameters.truncate|rope_scaling.truncate"}).value_or(true);
    const auto given = Real("attention_factor");
    const auto mscale = Real("mscale");
    const auto mscale_all = Real("mscale_all_dim");
    // DeepSeek also scales the scores (models/deepseek_v3, yarn_apply_mscale).
    if (c_.latent.kv_rank > 0 && mscale_all && *mscale_all != 0) {
      const double magnitude = YarnMagnitude(out_.table.factor, *mscale_all);
      c_.latent.score_scale = magnitude * magnitude;
    }
    if (given) {
      out_.table.attention_factor = *given;
    } else if (mscale && mscale_all && *mscale != 0 && *mscale_all != 0) {
      out_.table.attention_factor = YarnMagnitude(out_.table.factor, *mscale) / YarnMagnitude(out_.table.factor, *mscale_all);
    } else {
      out_.table.attention_factor = YarnMagnitude(out_.table.factor, 1);
    }
  }

  void LongRope() {
    const std::string short_keys = keys_.Of("short_factor");
    const std::string long_keys = keys_.Of("long_factor");
    out_.table.original_context = OriginalContext();
    out_.table.factors = reader_.Reals({short_keys}).value_or(std::vector<double>());
    out_.table.long_factors = reader_.Reals({long_keys}).value_or(std::vector<double>());
    const auto pairs = static_cast<size_t>(out_.table.rotary_dim / 2);
    if (out_.table.factors.size() != pairs || out_.table.long_factors.size() != pairs) {
      Refuse("rope_scaling", fmt::format("longrope needs {} short and long factors", pairs));
    }
    const double growth = Real("factor").value_or(static_cast<double>(c_.max_positions) / out_.table.original_context);
    out_.table.factor = growth;
    const auto given = Real("attention_factor");
    out_.table.attention_factor =
        given ? *given : growth <= 1 ? 1 : std::sqrt(1 + std::log(growth) / std::log(out_.table.original_context));
  }

  // Marks the keys whose meaning the exact ones repeat.
  void ReadStandardScaling() {
    for (const char* key : {"type", "factor", "original_context_length", "yarn_beta_fast", "yarn_beta_slow", "attn_factor",
                            "yarn_log_multiplier", "finetuned"}) {
      reader_.IgnoreGguf(std::string("rope.scaling.") + key);
    }
  }

  void ScalingFromGguf() {
    scaling_origin_ = "rule: no scaling";
    if (local_) return;
    std::string kind = reader_.Text({"", "rope.scaling.type"}).value_or("none");
    if (kind != "none") scaling_origin_ = reader_.last_origin();
    const auto factor = reader_.Real({"", "rope.scaling.factor|rope.scale_linear"});
    if (kind == "none" && reader_.Has({"", "rope.scale_linear"})) kind = "linear";
    if (kind == "linear" && factor.value_or(1) == 1) kind = "none";
    out_.table.scaling = kind;
    if (kind == "none") return;
    if (kind != "linear" && kind != "yarn" && kind != "longrope") Refuse("rope.scaling.type", "unknown rope scaling '" + kind + "'");
    if (kind == "longrope") {
      out_.table.original_context = OriginalContext();
      out_.table.factor = static_cast<double>(c_.max_positions) / out_.table.original_context;
      out_.table.attention_factor = reader_.Real({"", "rope.scaling.attn_factor"}).value_or(1);
      return;  // the factor sets are tensors: see Model
    }
    if (!factor || !(*factor > 0)) Refuse("rope.scaling.factor", "is missing or not positive");
    out_.table.factor = *factor;
    if (kind == "linear") return;
    out_.table.original_context = OriginalContext();
    out_.table.beta_fast = reader_.Real({"", "rope.scaling.yarn_beta_fast"}).value_or(32);
    out_.table.beta_slow = reader_.Real({"", "rope.scaling.yarn_beta_slow"}).value_or(1);
    const double given = reader_.Real({"", "rope.scaling.attn_factor"}).value_or(1);
    const auto log_multiplier = reader_.Real({"", "rope.scaling.yarn_log_multiplier"});
    if (log_multiplier && *log_multiplier != 0 && c_.latent.kv_rank > 0) {
      // llama.cpp src/models/deepseek2.cpp: the key holds 0.1 * mscale_all_dim, and mscale is taken equal.
      const double magnitude = given * YarnMagnitude(*factor, 10 * *log_multiplier);
      c_.latent.score_scale = magnitude * magnitude;
      out_.table.attention_factor = given;
    } else {
      out_.table.attention_factor = given * YarnMagnitude(*factor, 1);
    }
  }

  ConfigReader& reader_;
  const Architecture& arch_;
  ModelConfig& c_;
  RopeKeys keys_;
  bool local_;
  bool odd_part_ = false;
  std::string field_;
  std::string scaling_origin_ = "rule: no scaling";
  RopeSpec out_;
};

}  // namespace

void ResolveNoRopeLayers(ConfigReader& reader, ModelConfig& config) {
  const auto list = reader.Reals({"no_rope_layers"});
  const int64_t step = reader.Int({"no_rope_layer_interval"}).value_or(4);
  if (list && static_cast<int64_t>(list->size()) != config.num_layers) {
    throw Error(ErrorCode::kModelLoad, fmt::format("no_rope_layers has {} entries for {} layers", list->size(), config.num_layers),
                {.file = reader.file().path(), .tensor = "no_rope_layers"});
  }
  std::string without;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const bool rotates = list ? (*list)[static_cast<size_t>(i)] != 0 : step < 1 || (i + 1) % step != 0;
    config.layers[static_cast<size_t>(i)].rope = rotates ? 0 : -1;
    if (!rotates) without += fmt::format("{}{}", without.empty() ? "" : ",", i);
  }
  reader.NoteRule("rope_layers_without", without.empty() ? "none" : without, "no_rope_layers, or every fourth");
}

void ResolveRopes(ConfigReader& reader, const Architecture& arch, ModelConfig& config) {
  if (config.learned_positions) {
    for (LayerSpec& layer : config.layers) layer.rope = -1;
    return;
  }
  const bool two = arch.local_rope_theta > 0;
  config.ropes.push_back(RopeResolver(reader, arch, config, two ? "full_attention" : "").Resolve());
  if (!two) return;
  config.ropes.push_back(RopeResolver(reader, arch, config, "sliding_attention").Resolve());
  for (LayerSpec& layer : config.layers) layer.rope = layer.window > 0 ? 1 : 0;
}

}  // namespace apr
