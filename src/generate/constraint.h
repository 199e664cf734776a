// Holds the text of one sequence to a grammar, token by token.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "generate/grammar_matcher.h"
#include "generate/token_mask.h"
#include "generate/token_trie.h"

namespace apr {

class Constraint {
 public:
  // `stop_ids` end the text; they are allowed where the grammar lets it end, and only there. Throws kUsage if
  // the vocabulary can spell no beginning of the grammar's text.
  Constraint(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie, std::vector<int32_t> stop_ids);

  // Which tokens may come next; valid until the next call. Empty: the grammar's text is complete, or the
  // vocabulary cannot spell what must follow.
  const TokenMask& Allowed();
  // The token was taken. Throws kInference for one that is not allowed.
  void Accept(int32_t id);
  // The text may end here / must end here.
  bool may_end() const { return matcher_.Accepts(state_); }
  bool must_end() const { return !matcher_.Continues(state_); }
  void Restart() { state_ = matcher_.start(); }  // a new text; what was learned stays

 private:
  std::shared_ptr<const TokenTrie> trie_;
  std::vector<int32_t> stop_ids_;
  GrammarMatcher matcher_;
  GrammarMatcher::State state_;
  std::unordered_map<GrammarMatcher::State, TokenMask> masks_;
};

}  // namespace apr
