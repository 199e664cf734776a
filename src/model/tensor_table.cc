// See tensor_table.h.
#include "model/tensor_table.h"

#include <algorithm>

#include "base/check.h"

namespace apr {
namespace {

void ReplaceAll(std::string& text, std::string_view from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// Width of the hidden layer that a feed-forward slot belongs to.
int64_t FfnWidth(const ModelConfig& c, Slot slot) {
  switch (slot) {
    case Slot::kSharedGate:
    case Slot::kSharedGateBias:
    case Slot::kSharedUp:
    case Slot::kSharedUpBias:
    case Slot::kSharedDown:
      return c.moe.shared_ffn;
    case Slot::kExpertGate:
    case Slot::kExpertGateBias:
    case Slot::kExpertUp:
    case Slot::kExpertUpBias:
    case Slot::kExpertDown:
    case Slot::kExpertDownBias:
      return c.moe.expert_ffn;
    default:
      return c.ffn_size;
  }
}

Shape QkNormShape(const ModelConfig& c, int64_t heads) {
  using Kind = ModelConfig::QkNorm;
  if (c.qk_norm == Kind::kPerHead) return {c.head_dim};
  if (c.qk_norm == Kind::kPerHeadOwnWeight) return {heads, c.head_dim};
  return {heads * c.head_dim};
}

Shape LatentShape(const ModelConfig& c, Slot slot) {
  const LatentSpec& m = c.latent;
  const int64_t q_out = c.num_heads * c.head_dim;
  switch (slot) {
    case Slot::kQDown: return {m.q_rank, c.hidden_size};
    case Slot::kQDownBias:
    case Slot::kQDownNorm:
      return {m.q_rank};
    case Slot::kQUp: return {q_out, m.q_rank};
    case Slot::kKvDown: return {m.kv_rank + m.rope_dim, c.hidden_size};
    case Slot::kKvDownBias: return {m.kv_rank + m.rope_dim};
    case Slot::kKvDownNorm: return {m.kv_rank};
    default: return {c.num_heads * (m.nope_dim + c.v_head_dim), m.kv_rank};  // kKvUp
  }
}

Shape AttentionShape(const ModelConfig& c, Slot slot) {
  const int64_t q = c.num_heads * c.head_dim;
  const int64_t k = c.num_kv_heads * c.head_dim;
  const int64_t v = c.num_kv_heads * c.v_head_dim;
  switch (slot) {
    case Slot::kQ: return {q, c.hidden_size};
    case Slot::kQBias: return {q};
    case Slot::kK: return {k, c.hidden_size};
    case Slot::kKBias: return {k};
    case Slot::kV: return {v, c.hidden_size};
    case Slot::kVBias: return {v};
    case Slot::kO: return {c.hidden_size, c.num_heads * c.v_head_dim};
    case Slot::kQNorm: return QkNormShape(c, c.num_heads);
    case Slot::kKNorm: return QkNormShape(c, c.num_kv_heads);
    case Slot::kSinks: return {c.num_heads};
    default: return LatentShape(c, slot);
  }
}

Shape FfnShape(const ModelConfig& c, Slot slot) {
  const int64_t f = FfnWidth(c, slot);
  switch (slot) {
    case Slot::kGate:
    case Slot::kUp:
    case Slot::kSharedGate:
    case Slot::kSharedUp:
    case Slot::kExpertGate:
    case Slot::kExpertUp:
      return {f, c.hidden_size};
    case Slot::kDown:
    case Slot::kSharedDown:
    case Slot::kExpertDown:
      return {c.hidden_size, f};
    case Slot::kGateBias:
    case Slot::kUpBias:
    case Slot::kSharedGateBias:
    case Slot::kSharedUpBias:
    case Slot::kExpertGateBias:
    case Slot::kExpertUpBias:
      return {f};
    case Slot::kRouter: return {c.moe.experts, c.hidden_size};
    case Slot::kRouterBias:
    case Slot::kRouterCorrection:
      return {c.moe.experts};
    case Slot::kSharedRouter: return {1, c.hidden_size};
    default: return {c.hidden_size};  // biases of the down projections
  }
}

}  // namespace

std::string ExpandName(std::string_view pattern, int layer, int expert) {
  std::string out(pattern);
  ReplaceAll(out, "{L}", std::to_string(layer));
  ReplaceAll(out, "{E}", std::to_string(expert));
  return out;
}

Shape SlotShape(const ModelConfig& c, const SlotKey& key) {
  switch (key.slot) {
    case Slot::kTokenEmbedding:
    case Slot::kHead:
      return {c.vocab_size, c.hidden_size};
    case Slot::kHeadBias: return {c.vocab_size};
    case Slot::kPositionEmbedding: return {c.max_positions + c.position_offset, c.hidden_size};
    case Slot::kRopeFactors:
    case Slot::kRopeFactorsLong:
    case Slot::kRopeFactorsShort:
      return {c.ropes.empty() ? 0 : c.ropes[0].table.rotary_dim / 2};
    case Slot::kFinalNorm:
    case Slot::kFinalNormBias:
    case Slot::kAttnNorm:
    case Slot::kAttnNormBias:
    case Slot::kPostAttnNorm:
    case Slot::kFfnNorm:
    case Slot::kFfnNormBias:
    case Slot::kPostFfnNorm:
    case Slot::kOBias:
      return {c.hidden_size};
    default:
      return key.slot < Slot::kFfnNorm ? AttentionShape(c, key.slot) : FfnShape(c, key.slot);
  }
}

bool IsStacked(Transform t) {
  return t == Transform::kStackedExperts || t == Transform::kStackedExpertsTransposed ||
         t == Transform::kStackedExpertsInterleaved || t == Transform::kStackedExpertsInterleavedTransposed;
}

bool IsTransposed(Transform t) {
  return t == Transform::kTransposed || t == Transform::kStackedExpertsTransposed ||
         t == Transform::kStackedExpertsInterleavedTransposed;
}

std::vector<int32_t> RopeRowOrder(int64_t rows, int64_t heads, int64_t rotary_dim) {
  APR_CHECK(heads > 0 && rows % heads == 0);
  const int64_t head_dim = rows / heads;
  const int64_t half = rotary_dim / 2;
  std::vector<int32_t> order(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t head = r / head_dim;
    const int64_t i = r % head_dim;
    // Halves (c, j) of the rotated part lie as pairs (j, c) in the file; the rest stays.
    const int64_t stored = i < rotary_dim ? 2 * (i % half) + i / half : i;
    order[static_cast<size_t>(r)] = static_cast<int32_t>(head * head_dim + stored);
  }
  return order;
}

int64_t HeadsOf(const ModelConfig& config, Slot slot) {
  const bool is_kv = slot == Slot::kK || slot == Slot::kKBias || slot == Slot::kV || slot == Slot::kVBias ||
                     slot == Slot::kKNorm;
  return is_kv ? config.num_kv_heads : config.num_heads;
}

const std::vector<TensorRule>& LlamaNames() {
  static const std::vector<TensorRule> kTable = {
      {"model.embed_tokens.weight", {Slot::kTokenEmbedding}},
      {"model.norm.weight", {Slot::kFinalNorm}},
      {"model.norm.bias", {Slot::kFinalNormBias}},
      {"lm_head.weight", {Slot::kHead}},
      {"lm_head.bias", {Slot::kHeadBias}},
      {"model.layers.{L}.input_layernorm.weight", {Slot::kAttnNorm}},
      {"model.layers.{L}.input_layernorm.bias", {Slot::kAttnNormBias}},
      {"model.layers.{L}.self_attn.q_proj.weight", {Slot::kQ}},
      {"model.layers.{L}.self_attn.q_proj.bias", {Slot::kQBias}},
      {"model.layers.{L}.self_attn.k_proj.weight", {Slot::kK}},
      {"model.layers.{L}.self_attn.k_proj.bias", {Slot::kKBias}},
      {"model.layers.{L}.self_attn.v_proj.weight", {Slot::kV}},
      {"model.layers.{L}.self_attn.v_proj.bias", {Slot::kVBias}},
      {"model.layers.{L}.self_attn.o_proj.weight", {Slot::kO}},
      {"model.layers.{L}.self_attn.o_proj.bias", {Slot::kOBias}},
      {"model.layers.{L}.self_attn.q_norm.weight", {Slot::kQNorm}},
      {"model.layers.{L}.self_attn.k_norm.weight", {Slot::kKNorm}},
      {"model.layers.{L}.post_attention_layernorm.weight", {Slot::kFfnNorm}},
      {"model.layers.{L}.post_attention_layernorm.bias", {Slot::kFfnNormBias}},
      {"model.layers.{L}.mlp.gate_proj.weight", {Slot::kGate}},
      {"model.layers.{L}.mlp.gate_proj.bias", {Slot::kGateBias}},
      {"model.layers.{L}.mlp.up_proj.weight", {Slot::kUp}},
      {"model.layers.{L}.mlp.up_proj.bias", {Slot::kUpBias}},
      {"model.layers.{L}.mlp.down_proj.weight", {Slot::kDown}},
      {"model.layers.{L}.mlp.down_proj.bias", {Slot::kDownBias}},
  };
  return kTable;
}

// Source: llama.cpp gguf-py/gguf/constants.py, TENSOR_NAMES.
const std::vector<TensorRule>& GgufNames() {
  static const std::vector<TensorRule> kTable = {
      {"token_embd.weight", {Slot::kTokenEmbedding}},
      {"position_embd.weight", {Slot::kPositionEmbedding}},
      {"output_norm.weight", {Slot::kFinalNorm}},
      {"output_norm.bias", {Slot::kFinalNormBias}},
      {"output.weight", {Slot::kHead}},
      {"output.bias", {Slot::kHeadBias}},
      {"rope_freqs.weight", {Slot::kRopeFactors}},
      {"rope_factors_long.weight", {Slot::kRopeFactorsLong}},
      {"rope_factors_short.weight", {Slot::kRopeFactorsShort}},
      {"blk.{L}.attn_norm.weight", {Slot::kAttnNorm}},
      {"blk.{L}.attn_norm.bias", {Slot::kAttnNormBias}},
      {"blk.{L}.attn_q.weight", {Slot::kQ}},
      {"blk.{L}.attn_q.bias", {Slot::kQBias}},
      {"blk.{L}.attn_k.weight", {Slot::kK}},
      {"blk.{L}.attn_k.bias", {Slot::kKBias}},
      {"blk.{L}.attn_v.weight", {Slot::kV}},
      {"blk.{L}.attn_v.bias", {Slot::kVBias}},
      {"blk.{L}.attn_output.weight", {Slot::kO}},
      {"blk.{L}.attn_output.bias", {Slot::kOBias}},
      {"blk.{L}.attn_q_norm.weight", {Slot::kQNorm}},
      {"blk.{L}.attn_k_norm.weight", {Slot::kKNorm}},
      {"blk.{L}.post_attention_norm.weight", {Slot::kPostAttnNorm}},
      {"blk.{L}.ffn_norm.weight", {Slot::kFfnNorm}},
      {"blk.{L}.ffn_norm.bias", {Slot::kFfnNormBias}},
      {"blk.{L}.ffn_gate.weight", {Slot::kGate}},
      {"blk.{L}.ffn_gate.bias", {Slot::kGateBias}},
      {"blk.{L}.ffn_up.weight", {Slot::kUp}},
      {"blk.{L}.ffn_up.bias", {Slot::kUpBias}},
      {"blk.{L}.ffn_down.weight", {Slot::kDown}},
      {"blk.{L}.ffn_down.bias", {Slot::kDownBias}},
      {"blk.{L}.post_ffw_norm.weight", {Slot::kPostFfnNorm}},
  };
  return kTable;
}

std::vector<TensorRule> WithOverrides(const std::vector<TensorRule>& base, std::vector<TensorRule> overrides) {
  const auto overridden = [&](const TensorRule& rule) {
    return std::any_of(overrides.begin(), overrides.end(), [&](const TensorRule& other) {
      return std::any_of(rule.slots.begin(), rule.slots.end(), [&](Slot slot) {
        return std::find(other.slots.begin(), other.slots.end(), slot) != other.slots.end();
      });
    });
  };
  std::vector<TensorRule> out;
  for (const TensorRule& rule : base) {
    if (!overridden(rule)) out.push_back(rule);
  }
  for (TensorRule& rule : overrides) out.push_back(std::move(rule));
  return out;
}

}  // namespace apr
