// From what was typed to the tokens a model runs.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/model_flags.h"
#include "tokenizer/tokenizer.h"

namespace apr {

// Throws kUsage unless exactly one of --ids, --ids-file and -p was given.
void RequireOnePrompt(const PromptFlags& flags);

// For the commands that look at a model: text is tokenised with the model's tokenizer, special tokens
// added, no chat template.
std::vector<int32_t> PromptIds(const PromptFlags& flags, const Model& model);

// The tokens that end an answer: what the model's files declare, else what its tokenizer does. Says
// which with --verbose. `tokenizer` may be null.
std::vector<int32_t> StopTokens(const Model& model, const Tokenizer* tokenizer, Console& console);

}  // namespace apr
