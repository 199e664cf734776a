// See gguf_extension.h.
#include "model/gguf_extension.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "model/config_fields.h"
#include "model/export_config.h"

namespace apr {
namespace {

class Extender {
 public:
  Extender(const ModelConfig& config, const Architecture& arch, MetaBuilder& metadata) : c_(config), arch_(arch), out_(metadata) {}

  // Adds keys for one field; false if there are none for it.
  bool Add(const FieldDifference& d) {
    rounded_ = d.only_rounded;
    if (d.name.rfind("rope_", 0) == 0) return Rope(d.name);
    if (d.name == "latent_score_scale") return Rope(d.name);
    return Number(d.name) || Flag(d.name) || List(d.name) || Text(d.name);
  }

  std::vector<std::string> keys;  // that matter

 private:
  std::string Note(const char* key) {
    std::string name = std::string("apr.") + key;
    if (!rounded_) keys.push_back(name);
    return name;
  }
  bool Real(const char* key, double value) {
    out_.SetF64(Note(key), value);
    return true;
  }

  bool Number(const std::string& f) {
    const std::pair<const char*, std::pair<const char*, double>> rows[] = {
        {"norm_eps", {"rms_norm_eps", c_.norm_eps}},
        {"qkv_clip", {"clip_qkv", c_.qkv_clip}},
        {"attention_softcap", {"attn_logit_softcapping", c_.attention_softcap}},
        {"logit_softcap", {"final_logit_softcapping", c_.logit_softcap}},
        {"residual_scale", {"residual_multiplier", c_.residual_scale}},
        {"embedding_scale", {"embedding_multiplier", c_.embedding_scale}},
        {"swiglu_limit", {"swiglu_limit", c_.swiglu_limit}},
        {"swiglu_alpha", {"swiglu_alpha", c_.swiglu_alpha}},
        {"moe_scaling", {"routed_scaling_factor", c_.moe.scaling}},
    };
    for (const auto& [field, target] : rows) {
      if (f == field) return Real(target.first, target.second);
    }
    if (f == "logit_scale") return arch_.name == "granite" ? Real("logits_scaling", 1 / c_.logit_scale) : Real("logit_scale", c_.logit_scale);
    if (f != "attention_scale") return false;
    if (arch_.norm_offset != 0 && arch_.post_norm) return Real("query_pre_attn_scalar", QueryScalar(c_.attention_scale));
    return Real("attention_multiplier", c_.attention_scale / c_.latent.score_scale);
  }

  bool Flag(const std::string& f) {
    const auto set = [&](const char* key, bool value) {
      out_.SetBool(Note(key), value);
      return true;
    };
    if (f == "attention_scale_by_layer") return set("scale_attn_by_inverse_layer_idx", c_.attention_scale_by_layer);
    if (f == "moe_normalize") return set("norm_topk_prob", c_.moe.normalize);
    if (f == "parallel_residual") return set("use_parallel_residual", c_.parallel_residual);
    return false;
  }

  bool List(const std::string& f) {
    if (f == "layer_windows") return LayerTypes();
    std::vector<int32_t> list;
    if (f == "layer_ropes" && arch_.no_rope_layers) {
      for (const LayerSpec& layer : c_.layers) list.push_back(layer.rope < 0 ? 0 : 1);
      out_.SetI32s(Note("no_rope_layers"), list);
      return true;
    }
    if (f == "layer_moe" && arch_.moe == MoeRule::kSparseStep) {
      for (size_t i = 0; i < c_.layers.size(); ++i) {
        if (!c_.layers[i].moe) list.push_back(static_cast<int32_t>(i));
      }
      out_.SetI32s(Note("mlp_only_layers"), list);
      return true;
    }
    return false;
  }

  bool LayerTypes() {
    std::vector<std::string_view> types;
    for (const LayerSpec& layer : c_.layers) types.push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
    out_.SetStrings(Note("layer_types"), types);
    return true;
  }

  bool Text(const std::string& f) {
    if (f == "architecture") {
      // Other engines compute the same by the shared name; where not, another key says so.
      out_.SetString("apr.model_type", arch_.name);
      return true;
    }
    if (f != "activation") return false;
    out_.SetString(Note("hidden_activation"), HfActivation(c_.activation));
    return true;
  }

  bool Rope(const std::string& f) {
    if (f == "rope_theta") {
      return Real(c_.ropes.size() > 1 ? "rope_parameters.full_attention.rope_theta" : "rope_parameters.rope_theta", c_.ropes[0].table.theta);
    }
    if (f == "rope_local_theta") return Real("rope_local_base_freq", c_.ropes[1].table.theta);
    if (f.rfind("rope_local", 0) == 0 || f == "rope_dim" || f == "rope_adjacent" || f == "rope_halves_out") return false;
    const std::string group = ExtendRope(c_.ropes[0].table, c_.ropes.size() > 1, out_);
    if (c_.latent.kv_rank > 0 && c_.latent.score_scale != 1) {
      const double scale = (std::sqrt(c_.latent.score_scale) - 1) / (0.1 * std::log(c_.ropes[0].table.factor));
      out_.SetF64(group + ".mscale_all_dim", scale);
    }
    if (!rounded_) keys.push_back(group + ".*");
    return true;
  }

  const ModelConfig& c_;
  const Architecture& arch_;
  MetaBuilder& out_;
  bool rounded_ = false;
};

}  // namespace

std::string ExtendRope(const RopeTableAttributes& t, bool per_type, MetaBuilder& out) {
  const std::string group = per_type ? "apr.rope_parameters.full_attention" : "apr.rope_parameters";
  const auto real = [&](const char* name, double value) { out.SetF64(fmt::format("{}.{}", group, name), value); };
  out.SetString(group + ".rope_type", t.scaling == "none" ? "default" : t.scaling);
  if (t.scaling == "none") return group;
  real("factor", t.factor);
  if (t.scaling == "linear") return group;
  if (t.scaling != "longrope") real("original_max_position_embeddings", t.original_context);  // has a standard key
  if (t.scaling == "llama3") {
    real("low_freq_factor", t.low_freq_factor);
    real("high_freq_factor", t.high_freq_factor);
  } else if (t.scaling == "yarn") {
    real("beta_fast", t.beta_fast);
    real("beta_slow", t.beta_slow);
    out.SetBool(group + ".truncate", t.truncate);
    real("attention_factor", t.attention_factor);
  } else if (t.scaling == "longrope") {
    out.SetF64s(group + ".short_factor", t.factors);
    out.SetF64s(group + ".long_factor", t.long_factors);
    real("attention_factor", t.attention_factor);
  }
  return group;
}

std::vector<std::string> ExtendGguf(const ModelConfig& config, const Architecture& arch, MetaBuilder& metadata,
                                    const std::function<ModelConfig()>& resolve) {
  Extender extender(config, arch, metadata);
  // One key can bring others to light (the architecture decides on what else is read).
  for (int round = 0; round < 3; ++round) {
    const std::vector<FieldDifference> differences = DifferingFields(config, resolve());
    if (differences.empty()) break;
    const bool architecture = differences[0].name == "architecture";
    for (const FieldDifference& d : differences) {
      if (architecture && d.name != "architecture") continue;
      if (!extender.Add(d)) {
        throw Error(ErrorCode::kModelLoad, fmt::format("GGUF cannot express {} = {}: a reader would take {}", d.name, d.a, d.b),
                    {.tensor = d.name});
      }
    }
  }
  for (const FieldDifference& d : DifferingFields(config, resolve())) {
    throw Error(ErrorCode::kModelLoad, fmt::format("GGUF cannot express {} = {}: a reader would take {}", d.name, d.a, d.b),
                {.tensor = d.name});
  }
  const std::set<std::string> unique(extender.keys.begin(), extender.keys.end());
  return {unique.begin(), unique.end()};
}

}  // namespace apr
