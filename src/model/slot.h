// Parameter slots: what a weight is in the model, whatever a file calls it.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace apr {

enum class Slot {
  // whole model
  kTokenEmbedding, kPositionEmbedding, kFinalNorm, kFinalNormBias, kHead, kHeadBias, kRopeFactors,
  kRopeFactorsLong, kRopeFactorsShort,
  // per layer: attention
  kAttnNorm, kAttnNormBias, kQ, kQBias, kK, kKBias, kV, kVBias, kO, kOBias, kQNorm, kKNorm, kPostAttnNorm,
  kSinks,
  // per layer: latent attention (DeepSeek)
  kQDown, kQDownBias, kQDownNorm, kQUp, kKvDown, kKvDownBias, kKvDownNorm, kKvUp,
  // per layer: feed-forward
  kFfnNorm, kFfnNormBias, kGate, kGateBias, kUp, kUpBias, kDown, kDownBias, kPostFfnNorm,
  // per layer: experts
  kRouter, kRouterBias, kRouterCorrection, kSharedRouter, kSharedGate, kSharedGateBias, kSharedUp,
  kSharedUpBias, kSharedDown, kSharedDownBias,
  // per layer and expert
  kExpertGate, kExpertGateBias, kExpertUp, kExpertUpBias, kExpertDown, kExpertDownBias,
};

const char* SlotName(Slot slot);  // "q", "ffn_down": for messages
bool IsPerExpert(Slot slot);
bool IsRopeFactors(Slot slot);   // of a GGUF: tensors; of a folder: numbers of the configuration

struct SlotKey {
  Slot slot;
  int layer = -1;
  int expert = -1;
  auto operator<=>(const SlotKey&) const = default;  // NOLINT(modernize-use-nullptr): no pointer
};
std::string ToString(const SlotKey& key);  // "layer 3 q", "layer 1 expert 5 gate"

}  // namespace apr
