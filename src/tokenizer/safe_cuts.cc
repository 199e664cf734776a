// See safe_cuts.h.
#include "tokenizer/safe_cuts.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "tokenizer/model.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

bool IsAscii(std::string_view text) {
  unsigned char any = 0;
  for (const char c : text) any |= static_cast<unsigned char>(c);
  return any < 0x80;
}

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

bool IsWhole(std::string_view character) {
  return !IsContinuation(character[0]) &&
         character.size() == unicode::SequenceLength(static_cast<unsigned char>(character[0]));
}

}  // namespace

SafeCuts::SafeCuts(const Vocabulary& vocabulary) {
  std::string token;
  for (uint32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view piece = vocabulary.Piece(id);
    // Of most tokens the spelling already shows that they are ASCII; a space is spelled as U+0120.
    if (IsAscii(piece.starts_with("\xC4\xA0") ? piece.substr(2) : piece)) continue;
    // What is no sequence of bytes merging cannot make.
    if (!ByteLevelBytes(piece, token) || IsAscii(token)) continue;
    AddToken(token);
    if (token.size() < kLongToken) continue;
    const uint64_t bit = TokenBit(token);
    tokens_[bit >> 6] |= uint64_t{1} << (bit & 63);
  }
  const auto order = [](const Crossing& a, const Crossing& b) {
    return std::tie(a.pair, a.left, a.right) < std::tie(b.pair, b.left, b.right);
  };
  std::sort(crossings_.begin(), crossings_.end(), order);
  const auto same = [&](const Crossing& a, const Crossing& b) { return !order(a, b) && !order(b, a); };
  crossings_.erase(std::unique(crossings_.begin(), crossings_.end(), same), crossings_.end());
}

void SafeCuts::AddToken(std::string_view token) {
  size_t left = 0;  // begin of the character before `at`
  for (size_t at = 1; at < token.size(); ++at) {
    if (IsContinuation(token[at])) continue;
    size_t end = at + 1;
    while (end < token.size() && IsContinuation(token[end])) ++end;
    if (IsWhole(token.substr(left, at - left)) && IsWhole(token.substr(at, end - at))) {
      const uint64_t bit = Bit(unicode::DecodeValid(&token[left]).cp, unicode::DecodeValid(&token[at]).cp);
      whole_[bit >> 6] |= uint64_t{1} << (bit & 63);
    } else {
      const size_t pair = BytePair(token[at - 1], token[at]);
      parts_[pair >> 6] |= uint64_t{1} << (pair & 63);
      crossings_.push_back({pair, std::string(token.substr(left, at - left)), std::string(token.substr(at, end - at))});
    }
    left = at;
  }
}

bool SafeCuts::CrossedByPart(std::string_view word, size_t at) const {
  const size_t pair = BytePair(word[at - 1], word[at]);
  auto it = std::lower_bound(crossings_.begin(), crossings_.end(), pair, [](const Crossing& c, size_t p) { return c.pair < p; });
  for (; it != crossings_.end() && it->pair == pair; ++it) {
    if (word.substr(0, at).ends_with(it->left) && word.substr(at).starts_with(it->right)) return true;
  }
  return false;
}

}  // namespace apr
