// The tokens of a vocabulary by their bytes, to find at once all that a grammar allows next.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "generate/grammar_matcher.h"
#include "generate/token_mask.h"

namespace apr {

class Tokenizer;

class TokenTrie {
 public:
  // `bytes[id]`: what a token stands for; empty: never part of a text (control tokens).
  explicit TokenTrie(std::vector<std::string> bytes);
  // Special tokens and tokens without bytes are left out. `size`: of the masks, at least the vocabulary.
  static TokenTrie FromTokenizer(const Tokenizer& tokenizer, int64_t size);

  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  const std::string& BytesOf(int32_t id) const { return bytes_[static_cast<size_t>(id)]; }
  // Adds the tokens all of whose bytes the grammar can read from `state`.
  void AddAllowed(GrammarMatcher& matcher, GrammarMatcher::State state, TokenMask& mask) const;

 private:
  struct Node {
    uint32_t first_child = 0, children = 0;  // side by side in nodes_, by byte
    uint32_t first_token = 0, tokens = 0;    // that end here, in order_
    uint8_t byte = 0;
  };
  std::vector<std::string> bytes_;
  std::vector<int32_t> order_;  // ids by their bytes
  std::vector<Node> nodes_;
};

}  // namespace apr
