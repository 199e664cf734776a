// See text_stream.h.
#include "generate/text_stream.h"

namespace apr {

TextStream::TextStream(const Tokenizer* tokenizer, std::span<const int32_t> prompt) {
  if (tokenizer == nullptr) return;
  decoder_.emplace(tokenizer->Stream(true));
  for (const int32_t id : prompt) decoder_->Push(id);
}

std::string TextStream::Push(int32_t id) {
  std::string more;
  if (decoder_) {
    more = decoder_->Push(id);
  } else {
    if (!text_.empty()) more.push_back(' ');
    more.append(std::to_string(id));
  }
  text_ += more;
  return more;
}

std::string TextStream::Finish() {
  const std::string more = decoder_ ? decoder_->Flush() : "";
  text_ += more;
  return more;
}

}  // namespace apr
