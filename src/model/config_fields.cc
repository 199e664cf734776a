// See config_fields.h.
#include "model/config_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace apr {
namespace {

class Lister {
 public:
  void Number(std::string name, double value) { Numbers(std::move(name), {value}); }
  void Numbers(std::string name, std::vector<double> values) {
    std::string text;
    for (const double v : values) text += fmt::format("{}{}", text.empty() ? "" : ",", v);
    out.push_back({std::move(name), std::move(text), std::move(values)});
  }
  void Flag(std::string name, bool value) { Text(std::move(name), value ? "true" : "false"); }
  void Text(std::string name, std::string value) { out.push_back({std::move(name), std::move(value), {}}); }

  std::vector<ConfigField> out;
};

void Sizes(const ModelConfig& c, Lister& list) {
  list.Text("architecture", c.architecture);
  list.Number("vocab_size", static_cast<double>(c.vocab_size));
  list.Number("hidden_size", static_cast<double>(c.hidden_size));
  list.Number("num_layers", static_cast<double>(c.num_layers));
  list.Number("num_heads", static_cast<double>(c.num_heads));
  list.Number("num_kv_heads", static_cast<double>(c.num_kv_heads));
  list.Number("head_dim", static_cast<double>(c.head_dim));
  list.Number("v_head_dim", static_cast<double>(c.v_head_dim));
  // Of a model of experts alone nothing has this width.
  const bool dense = std::any_of(c.layers.begin(), c.layers.end(), [](const LayerSpec& l) { return !l.moe; });
  if (dense) list.Number("ffn_size", static_cast<double>(c.ffn_size));
  list.Number("max_positions", static_cast<double>(c.max_positions));
  list.Flag("tie_embeddings", c.tie_embeddings);
}

void NormsAndBiases(const ModelConfig& c, Lister& list) {
  list.Flag("layer_norm", c.layer_norm);
  list.Number("norm_eps", c.norm_eps);
  list.Number("norm_offset", c.norm_offset);
  list.Flag("norm_has_bias", c.norm_has_bias);
  list.Flag("norm_has_weight", c.norm_has_weight);
  list.Flag("pre_norm", c.pre_norm);
  list.Flag("post_norm", c.post_norm);
  list.Flag("q_bias", c.q_bias);
  list.Flag("k_bias", c.k_bias);
  list.Flag("v_bias", c.v_bias);
  list.Flag("o_bias", c.o_bias);
  list.Flag("gate_bias", c.gate_bias);
  list.Flag("up_bias", c.up_bias);
  list.Flag("down_bias", c.down_bias);
  list.Flag("head_bias", c.head_bias);
  list.Number("qk_norm", static_cast<double>(c.qk_norm));
  list.Flag("qk_norm_after_rope", c.qk_norm_after_rope);
  list.Flag("qk_norm_layer", c.qk_norm_layer);
}

void Rope(const RopeSpec& rope, const std::string& prefix, Lister& list) {
  const RopeTableAttributes& t = rope.table;
  list.Number(prefix + "_dim", static_cast<double>(t.rotary_dim));
  list.Number(prefix + "_theta", t.theta);
  list.Flag(prefix + "_adjacent", rope.adjacent);
  list.Flag(prefix + "_halves_out", rope.halves_out);
  list.Text(prefix + "_scaling", t.scaling);
  list.Number(prefix + "_factor", t.factor);
  list.Number(prefix + "_original_context", t.original_context);
  list.Number(prefix + "_low_freq_factor", t.low_freq_factor);
  list.Number(prefix + "_high_freq_factor", t.high_freq_factor);
  list.Number(prefix + "_beta_fast", t.beta_fast);
  list.Number(prefix + "_beta_slow", t.beta_slow);
  list.Flag(prefix + "_truncate", t.truncate);
  list.Number(prefix + "_attention_factor", t.attention_factor);
  list.Numbers(prefix + "_factors", t.factors);
  list.Numbers(prefix + "_long_factors", t.long_factors);
}

void Layers(const ModelConfig& c, Lister& list) {
  std::vector<double> windows, ropes, moe;
  for (const LayerSpec& layer : c.layers) {
    windows.push_back(static_cast<double>(layer.window));
    ropes.push_back(layer.rope);
    moe.push_back(layer.moe ? 1 : 0);
  }
  list.Numbers("layer_windows", std::move(windows));
  list.Numbers("layer_ropes", std::move(ropes));
  list.Numbers("layer_moe", std::move(moe));
}

void Scales(const ModelConfig& c, Lister& list) {
  list.Number("mlp", static_cast<double>(c.mlp));
  list.Text("activation", c.activation);
  list.Number("swiglu_limit", c.swiglu_limit);
  list.Number("swiglu_alpha", c.swiglu_alpha);
  list.Flag("learned_positions", c.learned_positions);
  list.Number("position_offset", static_cast<double>(c.position_offset));
  list.Number("attention_scale", c.attention_scale);
  list.Flag("attention_scale_by_layer", c.attention_scale_by_layer);
  list.Number("qkv_clip", c.qkv_clip);
  list.Number("attention_softcap", c.attention_softcap);
  list.Number("logit_softcap", c.logit_softcap);
  list.Number("embedding_scale", c.embedding_scale);
  list.Number("residual_scale", c.residual_scale);
  list.Number("logit_scale", c.logit_scale);
  list.Flag("parallel_residual", c.parallel_residual);
  list.Flag("shared_parallel_norm", c.shared_parallel_norm);
  list.Flag("attention_sinks", c.attention_sinks);
}

void Moe(const MoeSpec& m, Lister& list) {
  list.Number("moe_experts", static_cast<double>(m.experts));
  if (m.experts == 0) return;
  list.Number("moe_top_k", static_cast<double>(m.top_k));
  list.Number("moe_expert_ffn", static_cast<double>(m.expert_ffn));
  list.Number("moe_shared_ffn", static_cast<double>(m.shared_ffn));
  list.Flag("moe_shared_gated", m.shared_gated);
  list.Flag("moe_shared_bias", m.shared_bias);
  list.Text("moe_scoring", m.scoring);
  list.Flag("moe_router_bias", m.router_bias);
  list.Flag("moe_correction", m.correction);
  list.Flag("moe_expert_bias", m.expert_bias);
  list.Flag("moe_normalize", m.normalize);
  list.Number("moe_scaling", m.scaling);
  list.Number("moe_groups", static_cast<double>(m.groups));
  list.Number("moe_top_groups", static_cast<double>(m.top_groups));
  list.Flag("moe_group_by_top2", m.group_by_top2);
}

void Latent(const LatentSpec& m, Lister& list) {
  list.Number("latent_kv_rank", static_cast<double>(m.kv_rank));
  if (m.kv_rank == 0) return;
  list.Flag("latent_down_bias", m.down_bias);
  list.Number("latent_q_rank", static_cast<double>(m.q_rank));
  list.Number("latent_nope_dim", static_cast<double>(m.nope_dim));
  list.Number("latent_rope_dim", static_cast<double>(m.rope_dim));
  list.Number("latent_score_scale", m.score_scale);
}

constexpr double kSinglePrecision = 1.2e-7;
constexpr double kLastPlace = 1e-14;  // two ways to compute the same number

bool Within(const std::vector<double>& a, const std::vector<double>& b, double relative) {
  if (a.empty() || a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= relative * std::abs(a[i]))) return false;
  }
  return true;
}

}  // namespace

std::vector<ConfigField> FieldsOf(const ModelConfig& c) {
  Lister list;
  Sizes(c, list);
  NormsAndBiases(c, list);
  Scales(c, list);
  for (size_t i = 0; i < c.ropes.size(); ++i) Rope(c.ropes[i], i == 0 ? "rope" : "rope_local", list);
  Layers(c, list);
  Moe(c.moe, list);
  Latent(c.latent, list);
  return std::move(list.out);
}

std::vector<FieldDifference> DifferingFields(const ModelConfig& a, const ModelConfig& b) {
  const std::vector<ConfigField> in_a = FieldsOf(a);
  const std::vector<ConfigField> in_b = FieldsOf(b);
  std::vector<FieldDifference> out;
  const auto find = [](const std::vector<ConfigField>& all, const std::string& name) {
    return std::find_if(all.begin(), all.end(), [&](const ConfigField& f) { return f.name == name; });
  };
  for (const ConfigField& field : in_a) {
    const auto other = find(in_b, field.name);
    if (other == in_b.end()) out.push_back({field.name, field.text, "nothing", false});
    else if (other->text != field.text && !Within(field.numbers, other->numbers, kLastPlace)) {
      out.push_back({field.name, field.text, other->text, Within(field.numbers, other->numbers, kSinglePrecision)});
    }
  }
  for (const ConfigField& field : in_b) {
    if (find(in_a, field.name) == in_a.end()) out.push_back({field.name, "nothing", field.text, false});
  }
  return out;
}

}  // namespace apr
