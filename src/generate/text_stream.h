// The text of new tokens as they come.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "tokenizer/tokenizer.h"

namespace apr {

// Without a tokenizer (nullptr) the text is the ids with blanks between.
class TextStream {
 public:
  // `prompt`: the tokens before; a leading blank of the first new token depends on them. Borrows the
  // tokenizer.
  TextStream(const Tokenizer* tokenizer, std::span<const int32_t> prompt);

  // What became certain with this token: whole characters, maybe nothing.
  std::string Push(int32_t id);
  std::string Finish();
  // All that Push and Finish returned.
  const std::string& text() const { return text_; }

 private:
  std::optional<StreamDecoder> decoder_;
  std::string text_;
};

}  // namespace apr
