// See config_fields.h.
#include "compare/bisect/config_fields.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace apr::bisect {
namespace {

using C = ModelConfig;

// Equal up to what a file's f32 keeps of a number.
bool Near(double a, double b) { return a == b || std::abs(a - b) <= 1e-6 * std::max(std::abs(a), std::abs(b)); }

bool SameLists(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) { return std::abs(x - y) <= 1e-5 * std::abs(x); });
}

// Whatever the scaling is called: the same frequencies and magnitude at every length that matters.
bool SameScaling(const RopeTableAttributes& a, RopeTableAttributes b) {
  b.theta = a.theta;
  if (a.rotary_dim != b.rotary_dim) return a.scaling == b.scaling && Near(a.factor, b.factor);
  if (!Near(a.attention_factor, b.attention_factor)) return false;
  // Of one kind each constant is compared, so that one without effect is listed.
  if (a.scaling == b.scaling && a.scaling == "yarn" && !(Near(a.beta_fast, b.beta_fast) && Near(a.beta_slow, b.beta_slow))) return false;
  for (const double context : {1.0, a.original_context, b.original_context, 2 * a.original_context, 2 * b.original_context}) {
    for (const int64_t more : {0, 1}) {
      const int64_t length = std::max<int64_t>(1, static_cast<int64_t>(context) + more);
      if (!SameLists(InverseFrequencies(a, length), InverseFrequencies(b, length))) return false;
    }
  }
  return true;
}

template <typename Same>
bool EveryRope(const C& a, const C& b, Same same) {
  const size_t n = std::min(a.ropes.size(), b.ropes.size());
  for (size_t i = 0; i < n; ++i) {
    if (!same(a.ropes[i], b.ropes[i])) return false;
  }
  return true;
}
template <typename Copy>
void CopyRopes(C& to, const C& from, Copy copy) {
  for (size_t i = 0; i < std::min(to.ropes.size(), from.ropes.size()); ++i) copy(to.ropes[i], from.ropes[i]);
}
template <typename Get>
Json OfRopes(const C& c, Get get) {
  if (c.ropes.size() == 1) return get(c.ropes[0]);
  Json out = Json::array();
  for (const RopeSpec& rope : c.ropes) out.push_back(get(rope));
  return out;
}

bool SameWindows(const C& a, const C& b) {
  const size_t n = std::min(a.layers.size(), b.layers.size());
  for (size_t i = 0; i < n; ++i) {
    if (a.layers[i].window != b.layers[i].window) return false;
  }
  return true;
}
Json Windows(const C& c) {
  Json out = Json::array();
  bool all_same = true;
  for (const LayerSpec& layer : c.layers) {
    all_same &= layer.window == c.layers[0].window;
    out.push_back(layer.window);
  }
  return all_same && !c.layers.empty() ? Json(c.layers[0].window) : out;
}
bool SameRopeLayers(const C& a, const C& b) {
  const size_t n = std::min(a.layers.size(), b.layers.size());
  for (size_t i = 0; i < n; ++i) {
    if (a.layers[i].rope != b.layers[i].rope) return false;
  }
  return a.ropes.size() == b.ropes.size();
}

// A plain member.
#define APR_FIELD(cause, key, member) \
  ConfigField { cause, key, [](const C& a, const C& b) { return a.member == b.member; }, [](const C& c) { return Json(c.member); }, [](C& to, const C& from) { to.member = from.member; } }
#define APR_REAL(cause, key, member) \
  ConfigField { cause, key, [](const C& a, const C& b) { return Near(a.member, b.member); }, [](const C& c) { return JsonNumber(c.member); }, [](C& to, const C& from) { to.member = from.member; } }
#define APR_SIZE(cause, key, member) \
  ConfigField { cause, key, [](const C& a, const C& b) { return a.member == b.member; }, [](const C& c) { return Json(c.member); }, [](C& to, const C& from) { to.member = from.member; }, true }

const std::array kFields = {
    ConfigField{"", "num_hidden_layers", [](const C& a, const C& b) { return a.num_layers == b.num_layers; }, [](const C& c) { return Json(c.num_layers); },
                [](C& to, const C& from) {
                  const size_t known = std::min(to.layers.size(), from.layers.size());
                  to.num_layers = from.num_layers;
                  to.layers.resize(known);
                  to.layers.insert(to.layers.end(), from.layers.begin() + static_cast<int64_t>(known), from.layers.end());
                  if (to.ropes.size() < from.ropes.size()) to.ropes = from.ropes;
                },
                true},
    APR_SIZE("", "hidden_size", hidden_size),
    APR_SIZE("", "vocab_size", vocab_size),
    APR_SIZE("", "intermediate_size", ffn_size),
    APR_SIZE("", "num_experts", moe.experts),
    ConfigField{"head_dim", "head_dim", [](const C& a, const C& b) { return a.head_dim == b.head_dim && a.v_head_dim == b.v_head_dim; },
                [](const C& c) { return Json(c.head_dim); },
                [](C& to, const C& from) {
                  // What followed from it follows again.
                  const double old = 1 / std::sqrt(static_cast<double>(to.head_dim));
                  if (Near(to.attention_scale, old)) to.attention_scale = 1 / std::sqrt(static_cast<double>(from.head_dim));
                  for (size_t i = 0; i < std::min(to.ropes.size(), from.ropes.size()); ++i) {
                    if (to.ropes[i].table.rotary_dim == to.head_dim && from.ropes[i].table.rotary_dim == from.head_dim) to.ropes[i].table.rotary_dim = from.head_dim;
                  }
                  to.head_dim = from.head_dim;
                  to.v_head_dim = from.v_head_dim;
                },
                true},
    APR_SIZE("head_count", "num_attention_heads", num_heads),
    APR_SIZE("kv_head_count", "num_key_value_heads", num_kv_heads),
    ConfigField{"rope_layers", "no_rope_layers", SameRopeLayers,
                [](const C& c) {
                  Json out = Json::array();
                  for (const LayerSpec& layer : c.layers) out.push_back(layer.rope);
                  return out;
                },
                [](C& to, const C& from) {
                  to.ropes = from.ropes;
                  for (size_t i = 0; i < std::min(to.layers.size(), from.layers.size()); ++i) to.layers[i].rope = from.layers[i].rope;
                }},
    ConfigField{"rope_theta", "rope_theta", [](const C& a, const C& b) { return EveryRope(a, b, [](const RopeSpec& x, const RopeSpec& y) { return Near(x.table.theta, y.table.theta); }); },
                [](const C& c) { return OfRopes(c, [](const RopeSpec& r) { return JsonNumber(r.table.theta); }); },
                [](C& to, const C& from) { CopyRopes(to, from, [](RopeSpec& x, const RopeSpec& y) { x.table.theta = y.table.theta; }); }},
    ConfigField{"rope_dim", "partial_rotary_factor",
                [](const C& a, const C& b) { return EveryRope(a, b, [](const RopeSpec& x, const RopeSpec& y) { return x.table.rotary_dim == y.table.rotary_dim; }); },
                [](const C& c) { return OfRopes(c, [](const RopeSpec& r) { return Json(r.table.rotary_dim); }); },
                [](C& to, const C& from) { CopyRopes(to, from, [](RopeSpec& x, const RopeSpec& y) { x.table.rotary_dim = y.table.rotary_dim; }); }},
    ConfigField{"rope_scaling", "rope_scaling", [](const C& a, const C& b) { return EveryRope(a, b, [](const RopeSpec& x, const RopeSpec& y) { return SameScaling(x.table, y.table); }); },
                [](const C& c) {
                  return OfRopes(c, [](const RopeSpec& r) {
                    Json out = {{"rope_type", r.table.scaling}};
                    if (r.table.scaling != "none") out["factor"] = JsonNumber(r.table.factor);
                    if (r.table.attention_factor != 1) out["attention_factor"] = JsonNumber(r.table.attention_factor);
                    if (r.table.original_context > 0 && r.table.scaling != "none") out["original_max_position_embeddings"] = JsonNumber(r.table.original_context);
                    return out;
                  });
                },
                [](C& to, const C& from) {
                  CopyRopes(to, from, [](RopeSpec& x, const RopeSpec& y) {
                    RopeTableAttributes table = y.table;
                    table.theta = x.table.theta;
                    table.rotary_dim = x.table.rotary_dim;
                    x.table = table;
                  });
                  to.latent.score_scale = from.latent.score_scale;
                }},
    ConfigField{"rope_style", "rope_interleave",
                [](const C& a, const C& b) { return EveryRope(a, b, [](const RopeSpec& x, const RopeSpec& y) { return x.adjacent == y.adjacent && x.halves_out == y.halves_out; }); },
                [](const C& c) { return OfRopes(c, [](const RopeSpec& r) { return Json(r.adjacent ? "adjacent" : "halves"); }); },
                [](C& to, const C& from) {
                  CopyRopes(to, from, [](RopeSpec& x, const RopeSpec& y) {
                    x.adjacent = y.adjacent;
                    x.halves_out = y.halves_out;
                  });
                }},
    APR_REAL("norm_eps", "rms_norm_eps", norm_eps),
    APR_REAL("norm_offset", "norm_offset", norm_offset),
    ConfigField{"activation", "hidden_act",
                [](const C& a, const C& b) { return a.activation == b.activation && Near(a.swiglu_limit, b.swiglu_limit) && Near(a.swiglu_alpha, b.swiglu_alpha); },
                [](const C& c) { return Json(c.activation); },
                [](C& to, const C& from) {
                  to.activation = from.activation;
                  to.swiglu_limit = from.swiglu_limit;
                  to.swiglu_alpha = from.swiglu_alpha;
                }},
    ConfigField{"attention_scale", "attention_scale",
                [](const C& a, const C& b) {
                  return Near(a.attention_scale, b.attention_scale) && a.attention_scale_by_layer == b.attention_scale_by_layer && Near(a.latent.score_scale, b.latent.score_scale);
                },
                [](const C& c) { return JsonNumber(c.attention_scale); },
                [](C& to, const C& from) {
                  to.attention_scale = from.attention_scale;
                  to.attention_scale_by_layer = from.attention_scale_by_layer;
                  to.latent.score_scale = from.latent.score_scale;
                }},
    APR_REAL("attention_softcap", "attn_logit_softcapping", attention_softcap),
    APR_REAL("logit_softcap", "final_logit_softcapping", logit_softcap),
    ConfigField{"sliding_window", "sliding_window", SameWindows, Windows,
                [](C& to, const C& from) {
                  for (size_t i = 0; i < std::min(to.layers.size(), from.layers.size()); ++i) to.layers[i].window = from.layers[i].window;
                }},
    APR_REAL("embedding_scale", "embedding_multiplier", embedding_scale),
    APR_REAL("residual_scale", "residual_multiplier", residual_scale),
    APR_REAL("logit_scale", "logit_scale", logit_scale),
    APR_FIELD("parallel_residual", "use_parallel_residual", parallel_residual),
    APR_FIELD("parallel_residual", "use_parallel_residual", shared_parallel_norm),
    APR_FIELD("moe_top_k", "num_experts_per_tok", moe.top_k),
    APR_FIELD("moe_norm_topk", "norm_topk_prob", moe.normalize),
    APR_FIELD("moe_router_order", "scoring_func", moe.scoring),
    APR_REAL("moe_router_weights", "routed_scaling_factor", moe.scaling),
    APR_FIELD("", "topk_group", moe.top_groups),
    APR_FIELD("", "n_group", moe.groups),
    APR_REAL("", "clip_qkv", qkv_clip),
    APR_FIELD("position_offset", "position_offset", position_offset),
    // Biases and norms that a configuration switches off although the tensors are there.
    APR_FIELD("missing_bias", "attention_bias", q_bias),
    APR_FIELD("missing_bias", "attention_bias", k_bias),
    APR_FIELD("missing_bias", "attention_bias", v_bias),
    APR_FIELD("missing_bias", "attention_bias", o_bias),
    APR_FIELD("missing_bias", "mlp_bias", gate_bias),
    APR_FIELD("missing_bias", "mlp_bias", up_bias),
    APR_FIELD("missing_bias", "mlp_bias", down_bias),
    APR_FIELD("missing_norm", "use_qk_norm", qk_norm),
};

#undef APR_FIELD
#undef APR_REAL
#undef APR_SIZE

}  // namespace

std::span<const ConfigField> ConfigFields() { return kFields; }

const ConfigField* FieldOfKey(const std::string& key) {
  for (const ConfigField& field : kFields) {
    if (key == field.key) return &field;
  }
  static constexpr std::pair<const char*, const char*> kAlso[] = {
      {"rope_type", "rope_scaling"}, {"rope_scaling.factor", "rope_scaling"}, {"rope_parameters", "rope_scaling"}, {"factor", "rope_scaling"},
      {"n_head", "num_attention_heads"}, {"hidden_activation", "hidden_act"}, {"activation_function", "hidden_act"}};
  for (const auto& [spelled, meant] : kAlso) {
    if (key == spelled) return FieldOfKey(meant);
  }
  return nullptr;
}

}  // namespace apr::bisect
