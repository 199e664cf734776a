// How long the repetition would be that each next token continues: what the DRY penalty counts.
#pragma once

#include <cstdint>
#include <map>
#include <span>

#include "generate/token_mask.h"

namespace apr {

// For each token that followed an earlier occurrence of the text's end: the length of the longest such end. An
// end stops at a breaker, and a breaker is never counted as a continuation (p-e-w's DRY, as
// oobabooga/text-generation-webui modules/sampler_hijack.py, DRYLogitsProcessor, has it). Linear in the length
// of the history.
std::map<int32_t, int64_t> RepetitionLengths(std::span<const int32_t> history, const TokenMask& breakers);

}  // namespace apr
