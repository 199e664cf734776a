// What the two sides put around a text, where they stop, and how their chat templates write a conversation.
#pragma once

#include <string>
#include <vector>

#include "compare/bisect/bisection.h"
#include "compare/bisect/report.h"

namespace apr::bisect {

// bos_missing, bos_added, double_bos, special_tokens: by the tokens before and after a text. A flag
// add_bos_token of tokenizer_config.json counts where it contradicts tokenizer.json, as transformers does.
// `pre_found`: the pre-tokenizer's name was found wrong, which in a GGUF also says whether BOS is added.
std::vector<Finding> CompareSurroundings(const Side& a, const Side& b, bool pre_found);

// eos_id: where generation stops.
std::vector<Finding> CompareStops(const Side& a, const Side& b);

// chat_template, double_bos, special_tokens: what the templates make of the standard conversations and of
// `messages` (a JSON array, or empty). Adds what could not be compared to `notes`; counts renderings.
std::vector<Finding> CompareTemplates(const Side& a, const Side& b, const std::string& messages,
                                      std::vector<std::string>& notes, int64_t& compared);

}  // namespace apr::bisect
