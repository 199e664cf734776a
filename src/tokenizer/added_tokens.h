// Tokens that are found in the text before anything else: special tokens and others that were added
// to a vocabulary. Semantics as huggingface/tokenizers,
// tokenizers/src/tokenizer/added_vocabulary.rs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/byte_trie.h"

namespace apr {

struct AddedToken {
  uint32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // looked for in the normalised text, in its own normalised spelling
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes white space on its left with it
  bool rstrip = false;
  // What is looked for and what the id spells: the content, or its normalised form. Set by
  // AddedTokens.
  std::string spelled;
  bool skipped = false;  // left out of decoded text without special tokens; set by AddedTokens
};

class AddedTokens {
 public:
  // `normalize` gives the normalised spelling of a token's content (identity if there is none).
  AddedTokens(std::vector<AddedToken> tokens,
              const std::function<std::string(const std::string&)>& normalize);

  // A part of a text: an added token, or text between them (token == nullptr).
  struct Part {
    const AddedToken* token;
    size_t begin, end;
  };
  // Cuts `text` at the tokens that are looked for in the raw text (`normalized` false) or in the
  // normalised one. Special tokens are only cut out if `parse_special`. Parts are in order and
  // cover the text, except that a token which takes white space may overlap what follows.
  void Split(std::string_view text, bool normalized, bool parse_special,
             std::vector<Part>& parts) const;

  bool any(bool normalized) const { return !tries_[normalized].empty(); }
  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* Find(uint32_t id) const;
  const AddedToken* Find(std::string_view content) const;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<uint32_t, size_t> by_id_;
  std::unordered_map<std::string_view, size_t> by_content_;
  // Where a token may begin. Nearly all texts hold few such bytes, nearly all vocabularies begin them alike.
  struct Begins {
    bool byte[256] = {};
    int count = 0;
    char last = 0;  // of them
    size_t Next(std::string_view text, size_t at) const;
  };

  ByteTrie tries_[2];  // index: normalized
  Begins begins_[2];
};

}  // namespace apr
