// See builder.h.
#include "model/builder.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "model/tensor_table.h"
#include "op/activation/activation.h"
#include "op/add_bias/add_bias.h"
#include "op/attention/attention.h"
#include "op/elementwise/elementwise.h"
#include "op/embedding/embedding.h"
#include "op/latent/latent.h"
#include "op/linear/linear.h"
#include "op/moe/moe_experts.h"
#include "op/moe/moe_route.h"
#include "op/norm/norm.h"
#include "op/rope/rope.h"
#include "op/select_rows/select_rows.h"

namespace apr {
namespace {

class Builder {
 public:
  Builder(const ModelConfig& config, const std::function<std::string(const SlotKey&)>& name_of)
      : c_(config), name_of_(name_of) {}

  BuiltGraph Run() {
    for (size_t i = 0; i < c_.ropes.size(); ++i) {
      tables_.push_back(b_.Add(RopeTableOp(), i == 0 ? "rope_table" : fmt::format("rope_table_{}", i), -1,
                               c_.ropes[i].table, {Graph::kTokenIds}));
    }
    ValueId x = Embed();
    for (int64_t layer = 0; layer < c_.num_layers; ++layer) x = Layer(static_cast<int>(layer), x);
    const ValueId logits = Head(x);
    BuiltGraph out;
    out.slots = std::move(slots_);
    out.graph = b_.Finish(logits);
    return out;
  }

 private:
  WeightId Weight(Slot slot, int expert = -1) {
    const SlotKey key{slot, layer_, expert};
    const auto [it, is_new] = ids_.try_emplace(key, 0);
    if (is_new) {
      it->second = b_.Weight(name_of_(key), SlotShape(c_, key));
      slots_.push_back(key);
    }
    return it->second;
  }

  std::string Name(const char* what) const {
    return layer_ < 0 ? what : fmt::format("layer-{}/{}", layer_, what);
  }
  template <typename Struct>
  ValueId Add(const Op& op, const char* name, Struct attributes, std::vector<ValueId> inputs,
              std::vector<WeightId> weights = {}) {
    return b_.Add(op, Name(name), layer_, std::move(attributes), std::move(inputs), std::move(weights));
  }
  void Stage(const char* name, std::vector<ValueId> parts) { b_.AddStage(name, layer_, std::move(parts)); }

  ValueId Linear(const char* name, ValueId x, Slot slot, int expert = -1) {
    return Add(LinearOp(), name, LinearAttributes{}, {x}, {Weight(slot, expert)});
  }
  ValueId BiasIf(bool present, const char* name, ValueId x, Slot slot) {
    return present ? Add(AddBiasOp(), name, AddBiasAttributes{}, {x}, {Weight(slot)}) : x;
  }

  ValueId Norm(const char* name, ValueId x, Slot weight, Slot bias) {
    NormAttributes a{.layer_norm = c_.layer_norm, .eps = c_.norm_eps, .offset = c_.norm_offset};
    std::vector<WeightId> weights;
    if (c_.norm_has_weight) weights.push_back(Weight(weight));
    if (c_.norm_has_bias) weights.push_back(Weight(bias));
    return Add(NormOp(), name, a, {x}, weights);
  }

  ValueId QkNorm(const char* name, ValueId x, Slot slot, int64_t heads) {
    using Kind = ModelConfig::QkNorm;
    const bool full = c_.qk_norm == Kind::kFullWidth;
    return Add(NormOp(), name,
               NormAttributes{.layer_norm = c_.qk_norm_layer,
                              .eps = c_.norm_eps,
                              .offset = c_.norm_offset,
                              .groups = full ? 1 : heads,
                              .weight_per_group = c_.qk_norm == Kind::kPerHeadOwnWeight},
               {x}, {Weight(slot)});
  }

  ValueId Embed() {
    ValueId x = Add(EmbeddingOp(), "embedding", EmbeddingAttributes{.scale = c_.embedding_scale},
                    {Graph::kTokenIds}, {Weight(Slot::kTokenEmbedding)});
    if (c_.learned_positions) {
      const ValueId p = Add(EmbeddingOp(), "position_embedding",
                            EmbeddingAttributes{.by_position = true, .offset = c_.position_offset},
                            {Graph::kTokenIds}, {Weight(Slot::kPositionEmbedding)});
      x = Add(AddOp(), "embedding_sum", AddAttributes{}, {x, p});
    }
    b_.AddStage("embedding", 0, {x});
    return x;
  }

  // Rotates elements [first, first + rotary_dim) of each head.
  ValueId Rotate(const char* name, ValueId x, int64_t heads, int64_t head_dim, int64_t first) {
    const int rope = c_.layers[static_cast<size_t>(layer_)].rope;
    if (rope < 0) return x;
    const RopeSpec& spec = c_.ropes[static_cast<size_t>(rope)];
    return Add(RopeOp(), name,
               RopeAttributes{.heads = heads,
                              .head_dim = head_dim,
                              .rotary_dim = spec.table.rotary_dim,
                              .first = first,
                              .adjacent = spec.adjacent,
                              .halves_out = spec.halves_out},
               {x, tables_[static_cast<size_t>(rope)]});
  }

  ValueId Attention(ValueId q, ValueId k, ValueId v) {
    const AttentionAttributes a{.heads = c_.num_heads,
                                .kv_heads = c_.num_kv_heads,
                                .k_dim = c_.head_dim,
                                .v_dim = c_.v_head_dim,
                                .scale = c_.attention_scale_by_layer ? c_.attention_scale / (layer_ + 1) : c_.attention_scale,
                                .softcap = c_.attention_softcap,
                                .window = c_.layers[static_cast<size_t>(layer_)].window,
                                .cache_slot = b_.NewCacheSlot()};
    Node node{.op = &AttentionOp(),
              .attributes = std::make_shared<AttributesOf<AttentionAttributes>>(a),
              .inputs = {q, k, v},
              .layer = layer_,
              .name = Name("attention")};
    if (c_.attention_sinks) node.weights.push_back(Weight(Slot::kSinks));
    const std::vector<ValueId> outputs = b_.AddNode(std::move(node));
    Stage("attn_scores", {outputs[1]});
    Stage("attn_softmax", {outputs[2]});
    Stage("attention", {outputs[0]});
    return outputs[0];
  }

  ValueId AttentionBlock(ValueId h) {
    ValueId q = Linear("q_proj", h, Slot::kQ);
    ValueId k = Linear("k_proj", h, Slot::kK);
    ValueId v = Linear("v_proj", h, Slot::kV);
    Stage("qkv_matmul", {q, k, v});
    q = BiasIf(c_.q_bias, "q_bias", q, Slot::kQBias);
    k = BiasIf(c_.k_bias, "k_bias", k, Slot::kKBias);
    v = BiasIf(c_.v_bias, "v_bias", v, Slot::kVBias);
    Stage("qkv_bias", {q, k, v});
    const bool norm = c_.qk_norm != ModelConfig::QkNorm::kNone;
    if (norm && !c_.qk_norm_after_rope) {
      q = QkNorm("q_norm", q, Slot::kQNorm, c_.num_heads);
      k = QkNorm("k_norm", k, Slot::kKNorm, c_.num_kv_heads);
      Stage("q_norm", {q});
      Stage("k_norm", {k});
    }
    if (c_.qkv_clip > 0) {
      q = Add(ClampOp(), "q_clip", ClampAttributes{c_.qkv_clip}, {q});
      k = Add(ClampOp(), "k_clip", ClampAttributes{c_.qkv_clip}, {k});
      v = Add(ClampOp(), "v_clip", ClampAttributes{c_.qkv_clip}, {v});
    }
    q = Rotate("q_rope", q, c_.num_heads, c_.head_dim, 0);
    k = Rotate("k_rope", k, c_.num_kv_heads, c_.head_dim, 0);
    return AttendAndProject(q, k, v);
  }

  ValueId AttendAndProject(ValueId q, ValueId k, ValueId v) {
    Stage("q_post_rope", {q});
    Stage("k_post_rope", {k});
    const ValueId a = Attention(q, k, v);
    ValueId out = Linear("o_proj", a, Slot::kO);
    out = BiasIf(c_.o_bias, "o_bias", out, Slot::kOBias);
    Stage("attn_out", {out});
    return out;
  }

  // A norm of the compressed vectors: the layer's kind, no bias, no offset.
  ValueId LatentNorm(const char* name, ValueId x, Slot slot) {
    return Add(NormOp(), name, NormAttributes{.layer_norm = c_.layer_norm, .eps = kLatentEps}, {x}, {Weight(slot)});
  }

  // DeepSeek-V2, arXiv 2405.04434, section 2.1.
  ValueId LatentAttentionBlock(ValueId h) {
    const LatentSpec& m = c_.latent;
    ValueId q;
    if (m.q_rank > 0) {
      q = BiasIf(m.down_bias, "q_down_bias", Linear("q_down", h, Slot::kQDown), Slot::kQDownBias);
      q = LatentNorm("q_down_norm", q, Slot::kQDownNorm);
      q = Linear("q_up", q, Slot::kQUp);
    } else {
      q = Linear("q_proj", h, Slot::kQ);
    }
    q = Rotate("q_rope", q, c_.num_heads, c_.head_dim, m.nope_dim);
    const ValueId down = BiasIf(m.down_bias, "kv_down_bias", Linear("kv_down", h, Slot::kKvDown), Slot::kKvDownBias);
    const ValueId latent = Add(SliceOp(), "kv_latent", SliceAttributes{0, m.kv_rank}, {down});
    const ValueId shared = Add(SliceOp(), "k_shared", SliceAttributes{m.kv_rank, m.rope_dim}, {down});
    const ValueId rotated = Rotate("k_rope", shared, 1, m.rope_dim, 0);
    const ValueId up = Linear("kv_up", LatentNorm("kv_down_norm", latent, Slot::kKvDownNorm), Slot::kKvUp);
    const std::vector<ValueId> kv = b_.AddNode({.op = &LatentKvOp(),
                                                .attributes = std::make_shared<AttributesOf<LatentKvAttributes>>(
                                                    LatentKvAttributes{c_.num_heads, m.nope_dim, m.rope_dim, c_.v_head_dim}),
                                                .inputs = {up, rotated},
                                                .layer = layer_,
                                                .name = Name("latent_kv")});
    return AttendAndProject(q, kv[0], kv[1]);
  }

  // The shared expert: a dense block beside the routed ones.
  ValueId SharedExpert(ValueId h) {
    const bool bias = c_.moe.shared_bias;
    const ValueId gate = BiasIf(bias, "shared_gate_bias", Linear("shared_gate", h, Slot::kSharedGate), Slot::kSharedGateBias);
    const ValueId up = BiasIf(bias, "shared_up_bias", Linear("shared_up", h, Slot::kSharedUp), Slot::kSharedUpBias);
    const ValueId active = Add(ActivationOp(), "shared_act", ActivationAttributes{.kind = c_.activation}, {gate});
    const ValueId inner = Add(MulOp(), "shared_mul", MulAttributes{}, {active, up});
    const ValueId out = BiasIf(bias, "shared_down_bias", Linear("shared_down", inner, Slot::kSharedDown), Slot::kSharedDownBias);
    if (!c_.moe.shared_gated) return out;
    return Add(SigmoidGateOp(), "shared_expert_gate", SigmoidGateAttributes{}, {out, Linear("shared_router", h, Slot::kSharedRouter)});
  }

  std::vector<ValueId> Route(ValueId h) {
    const MoeSpec& m = c_.moe;
    ValueId logits = Linear("router", h, Slot::kRouter);
    logits = BiasIf(m.router_bias, "router_bias", logits, Slot::kRouterBias);
    Stage("moe_router_logits", {logits});
    Node node{.op = &MoeRouteOp(),
              .attributes = std::make_shared<AttributesOf<MoeRouteAttributes>>(MoeRouteAttributes{
                  .experts = m.experts, .top_k = m.top_k, .scoring = m.scoring, .normalize = m.normalize, .scaling = m.scaling,
                  .groups = m.groups, .top_groups = m.top_groups, .group_by_top2 = m.group_by_top2, .unsorted = c_.latent.kv_rank > 0}),
              .inputs = {logits},
              .layer = layer_,
              .name = Name("route")};
    if (m.correction) node.weights.push_back(Weight(Slot::kRouterCorrection));
    const std::vector<ValueId> route = b_.AddNode(std::move(node));
    Stage("moe_router", {route[0]});
    Stage("moe_router_indices", {route[1]});
    return route;
  }

  ValueId MoeBlock(ValueId h) {
    const MoeSpec& m = c_.moe;
    const std::vector<ValueId> route = Route(h);
    std::vector<WeightId> weights;
    for (int e = 0; e < static_cast<int>(m.experts); ++e) {
      for (const auto& [slot, bias] : {std::pair{Slot::kExpertGate, Slot::kExpertGateBias}, std::pair{Slot::kExpertUp, Slot::kExpertUpBias},
                                       std::pair{Slot::kExpertDown, Slot::kExpertDownBias}}) {
        weights.push_back(Weight(slot, e));
        if (m.expert_bias) weights.push_back(Weight(bias, e));
      }
    }
    ValueId out = Add(MoeExpertsOp(), "experts",
                      MoeExpertsAttributes{.experts = m.experts, .ffn = m.expert_ffn, .activation = c_.activation, .bias = m.expert_bias,
                                           .swiglu_limit = c_.swiglu_limit, .swiglu_alpha = c_.swiglu_alpha},
                      {h, route[0], route[1]}, weights);
    if (m.shared_ffn > 0) out = Add(AddOp(), "experts_sum", AddAttributes{}, {out, SharedExpert(h)});
    Stage("moe_ffn_out", {out});
    return out;
  }

  ValueId FfnBlock(ValueId h) {
    ValueId up = kNoValue;
    ValueId inner = kNoValue;
    const ActivationAttributes act{.kind = c_.activation};
    if (c_.mlp == MlpKind::kGated) {
      const ValueId gate = BiasIf(c_.gate_bias, "gate_bias", Linear("gate_proj", h, Slot::kGate), Slot::kGateBias);
      Stage("ffn_gate", {gate});
      up = BiasIf(c_.up_bias, "up_bias", Linear("up_proj", h, Slot::kUp), Slot::kUpBias);
      Stage("ffn_up", {up});
      const ValueId active = Add(ActivationOp(), "ffn_act", act, {gate});
      Stage("ffn_silu", {active});
      inner = Add(MulOp(), "ffn_mul", MulAttributes{}, {active, up});
      Stage("ffn_swigl", {inner});
    } else {
      up = BiasIf(c_.up_bias, "up_bias", Linear("up_proj", h, Slot::kUp), Slot::kUpBias);
      Stage("ffn_up", {up});
      inner = Add(ActivationOp(), "ffn_act", act, {up});
      Stage("ffn_silu", {inner});
    }
    const ValueId out = BiasIf(c_.down_bias, "down_bias", Linear("down_proj", inner, Slot::kDown), Slot::kDownBias);
    Stage("ffn_out", {out});
    return out;
  }

  ValueId Residual(const char* name, ValueId x, ValueId y) {
    return Add(AddOp(), name, AddAttributes{.scale = c_.residual_scale}, {x, y});
  }

  ValueId Layer(int layer, ValueId x) {
    layer_ = layer;
    ValueId h = x;
    if (c_.pre_norm) {
      h = Norm("attn_norm", x, Slot::kAttnNorm, Slot::kAttnNormBias);
      Stage("attn_norm", {h});
    }
    ValueId a = c_.latent.kv_rank > 0 ? LatentAttentionBlock(h) : AttentionBlock(h);
    if (c_.post_norm) {
      a = Norm("post_attn_norm", a, Slot::kPostAttnNorm, Slot::kPostAttnNorm);
      Stage("post_attn_norm", {a});
    }
    ValueId middle = x;
    if (!c_.parallel_residual) {
      middle = Residual("post_attn_residual", x, a);
      Stage("post_attn_residual", {middle});
    }
    ValueId g = middle;
    if (c_.parallel_residual && c_.shared_parallel_norm) {
      g = h;
    } else if (c_.pre_norm) {
      g = Norm("ffn_norm", middle, Slot::kFfnNorm, Slot::kFfnNormBias);
      Stage("ffn_norm", {g});
    }
    ValueId f = c_.layers[static_cast<size_t>(layer)].moe ? MoeBlock(g) : FfnBlock(g);
    if (c_.post_norm) {
      f = Norm("post_ffn_norm", f, Slot::kPostFfnNorm, Slot::kPostFfnNorm);
      Stage("post_ffn_norm", {f});
    }
    if (c_.parallel_residual) middle = Residual("attn_residual", x, a);
    const ValueId out = Residual("post_ffn_residual", middle, f);
    Stage("post_ffn_residual", {out});
    layer_ = -1;
    return out;
  }

  ValueId Head(ValueId x) {
    x = Add(SelectRowsOp(), "select_rows", SelectRowsAttributes{}, {x});
    x = Norm("final_norm", x, Slot::kFinalNorm, Slot::kFinalNormBias);
    Stage("final_norm", {x});
    ValueId logits = Linear("lm_head", x, c_.tie_embeddings ? Slot::kTokenEmbedding : Slot::kHead);
    logits = BiasIf(c_.head_bias, "lm_head_bias", logits, Slot::kHeadBias);
    if (c_.logit_scale != 1) logits = Add(ScaleOp(), "logit_scale", ScaleAttributes{.factor = c_.logit_scale}, {logits});
    if (c_.logit_softcap != 0) logits = Add(SoftcapOp(), "logit_softcap", SoftcapAttributes{.cap = c_.logit_softcap}, {logits});
    Stage("lm_head", {logits});
    return logits;
  }

  static constexpr ValueId kNoValue = -1;
  // transformers builds the norms of the compressed vectors with their class's default
  // (models/deepseek_v2/modeling_deepseek_v2.py, DeepseekV2RMSNorm), not with rms_norm_eps.
  static constexpr double kLatentEps = 1e-6;

  const ModelConfig& c_;
  const std::function<std::string(const SlotKey&)>& name_of_;
  GraphBuilder b_;
  std::vector<ValueId> tables_;
  std::map<SlotKey, WeightId> ids_;
  std::vector<SlotKey> slots_;
  int layer_ = -1;
};

}  // namespace

BuiltGraph BuildGraph(const ModelConfig& config, const std::function<std::string(const SlotKey&)>& name_of) {
  return Builder(config, name_of).Run();
}

}  // namespace apr
