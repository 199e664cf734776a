// What two tokenizers and two chat templates are asked, beside what the user gives: fixed texts, texts
// drawn from the vocabulary, and standard conversations. docs/bisect-tokens.md lists them.
#pragma once

#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "tokenizer/tokenizer.h"

namespace apr::bisect {

// English, code, digits, many scripts, emoji, white space, line breaks, apostrophes, odd characters.
const std::vector<std::string>& FixedTexts();

// The spellings of added tokens of either side inside a sentence, and pieces of A's vocabulary as text:
// every piece that B spells otherwise under its id, and of the rest all (`thorough`) or a sample.
std::vector<std::string> VocabularyTexts(const Tokenizer& a, const Tokenizer& b, bool thorough);

// Texts in which merges that the two rank otherwise, or that only one has, meet a neighbour they compete
// with. Nothing for models without merges.
std::vector<std::string> MergeTexts(const Tokenizer& a, const Tokenizer& b);

struct Conversation {
  std::string name;  // "user", "system and user", "three turns", "tools"
  bool generation_prompt = true;
  std::string messages_json, tools_json;  // tools_json empty: none
};
const std::vector<Conversation>& StandardConversations();

}  // namespace apr::bisect
