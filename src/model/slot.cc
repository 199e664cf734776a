// See slot.h.
#include "model/slot.h"

#include <fmt/format.h>

namespace apr {
namespace {

struct NamedSlot {
  Slot slot;
  const char* name;
};
constexpr NamedSlot kNames[] = {
    {Slot::kTokenEmbedding, "token_embedding"},
    {Slot::kPositionEmbedding, "position_embedding"},
    {Slot::kFinalNorm, "final_norm"},
    {Slot::kFinalNormBias, "final_norm_bias"},
    {Slot::kHead, "lm_head"},
    {Slot::kHeadBias, "lm_head_bias"},
    {Slot::kRopeFactors, "rope_factors"},
    {Slot::kRopeFactorsLong, "rope_factors_long"},
    {Slot::kRopeFactorsShort, "rope_factors_short"},
    {Slot::kAttnNorm, "attn_norm"},
    {Slot::kAttnNormBias, "attn_norm_bias"},
    {Slot::kQ, "q"},
    {Slot::kQBias, "q_bias"},
    {Slot::kK, "k"},
    {Slot::kKBias, "k_bias"},
    {Slot::kV, "v"},
    {Slot::kVBias, "v_bias"},
    {Slot::kO, "o"},
    {Slot::kOBias, "o_bias"},
    {Slot::kQNorm, "q_norm"},
    {Slot::kKNorm, "k_norm"},
    {Slot::kPostAttnNorm, "post_attn_norm"},
    {Slot::kSinks, "sinks"},
    {Slot::kQDown, "q_down"},
    {Slot::kQDownBias, "q_down_bias"},
    {Slot::kQDownNorm, "q_down_norm"},
    {Slot::kQUp, "q_up"},
    {Slot::kKvDown, "kv_down"},
    {Slot::kKvDownBias, "kv_down_bias"},
    {Slot::kKvDownNorm, "kv_down_norm"},
    {Slot::kKvUp, "kv_up"},
    {Slot::kFfnNorm, "ffn_norm"},
    {Slot::kFfnNormBias, "ffn_norm_bias"},
    {Slot::kGate, "ffn_gate"},
    {Slot::kGateBias, "ffn_gate_bias"},
    {Slot::kUp, "ffn_up"},
    {Slot::kUpBias, "ffn_up_bias"},
    {Slot::kDown, "ffn_down"},
    {Slot::kDownBias, "ffn_down_bias"},
    {Slot::kPostFfnNorm, "post_ffn_norm"},
    {Slot::kRouter, "router"},
    {Slot::kRouterBias, "router_bias"},
    {Slot::kRouterCorrection, "router_correction"},
    {Slot::kSharedRouter, "shared_router"},
    {Slot::kSharedGate, "shared_gate"},
    {Slot::kSharedGateBias, "shared_gate_bias"},
    {Slot::kSharedUp, "shared_up"},
    {Slot::kSharedUpBias, "shared_up_bias"},
    {Slot::kSharedDown, "shared_down"},
    {Slot::kSharedDownBias, "shared_down_bias"},
    {Slot::kExpertGate, "expert_gate"},
    {Slot::kExpertGateBias, "expert_gate_bias"},
    {Slot::kExpertUp, "expert_up"},
    {Slot::kExpertUpBias, "expert_up_bias"},
    {Slot::kExpertDown, "expert_down"},
    {Slot::kExpertDownBias, "expert_down_bias"},
};

}  // namespace

const char* SlotName(Slot slot) {
  for (const NamedSlot& row : kNames) {
    if (row.slot == slot) return row.name;
  }
  return "?";
}

bool IsPerExpert(Slot slot) { return slot >= Slot::kExpertGate; }
bool IsRopeFactors(Slot slot) { return slot >= Slot::kRopeFactors && slot <= Slot::kRopeFactorsShort; }

std::string ToString(const SlotKey& key) {
  std::string out;
  if (key.layer >= 0) out += fmt::format("layer {} ", key.layer);
  if (key.expert >= 0) out += fmt::format("expert {} ", key.expert);
  return out + SlotName(key.slot);
}

}  // namespace apr
