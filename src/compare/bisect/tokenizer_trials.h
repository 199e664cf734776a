// Two tokenizers against each other by the ids they give, and the settings of B that make the difference:
// found by putting A's in their place one after the other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compare/bisect/report.h"
#include "tokenizer/tokenizer.h"

namespace apr::bisect {

// The first place where the ids of one text differ; nullopt: they are equal.
struct IdDifference {
  std::string text;
  size_t position = 0;
  std::optional<int32_t> a, b;      // absent: the list ends there, or the side cannot spell the text
  std::string piece_a, piece_b;
};
std::optional<IdDifference> CompareIds(const Tokenizer& a, const Tokenizer& b, const std::string& text);
std::string Describe(const IdDifference& difference);  // one sentence

struct TokenizerComparison {
  std::vector<Finding> findings;    // phase tokens; those with an effect first
  int64_t texts = 0;                // compared
};

// `first`: texts that matter most (the user's). Special tokens written in a text are parsed; what is put
// around a text is not looked at (see special_trials.h). `causes` false: only the difference is named.
TokenizerComparison CompareTokenizers(const Tokenizer& a, const Tokenizer& b, const std::vector<std::string>& first,
                                      bool causes);

// A sample of a long or unprintable text, quoted.
std::string Quoted(const std::string& text);

}  // namespace apr::bisect
