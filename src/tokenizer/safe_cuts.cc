// See safe_cuts.h.
#include "tokenizer/safe_cuts.h"

#include <algorithm>
#include <optional>
#include <string>

#include "tokenizer/model.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

bool IsWhole(std::string_view character) {
  return !IsContinuation(character[0]) &&
         character.size() == unicode::SequenceLength(static_cast<unsigned char>(character[0]));
}

}  // namespace

SafeCuts::SafeCuts(const Vocabulary& vocabulary) {
  for (uint32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view piece = vocabulary.Piece(id);
    // Tokens of ASCII letters alone are spelled as they are.
    if (std::all_of(piece.begin(), piece.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) continue;
    const std::optional<std::string> token = ByteLevelBytes(piece);
    if (!token) continue;  // no sequence of bytes: merging cannot make it
    for (size_t at = 1; at < token->size(); ++at) {
      if (!IsContinuation((*token)[at])) AddBorder(*token, at);
    }
  }
}

uint32_t SafeCuts::Pack(std::string_view character) {
  uint32_t out = 0;
  for (const char c : character) out = out << 8 | static_cast<unsigned char>(c);
  return out;
}

// The border before byte `at`, where a character begins.
void SafeCuts::AddBorder(std::string_view token, size_t at) {
  size_t left = at - 1;
  while (left > 0 && IsContinuation(token[left])) --left;
  size_t end = at + 1;
  while (end < token.size() && IsContinuation(token[end])) ++end;
  const std::string_view before = token.substr(left, at - left);
  const std::string_view after = token.substr(at, end - at);
  if (IsWhole(before) && IsWhole(after)) {
    const uint64_t bit = Bit(Pack(before), Pack(after));
    whole_[bit >> 6] |= uint64_t{1} << (bit & 63);
  } else {
    const size_t pair = static_cast<size_t>(static_cast<unsigned char>(before.back())) << 8 | static_cast<unsigned char>(after[0]);
    parts_[pair >> 6] |= uint64_t{1} << (pair & 63);
  }
}

bool SafeCuts::MayJoin(std::string_view left, std::string_view right) const {
  return MayJoin(Pack(left), Pack(right), static_cast<unsigned char>(left.back()), static_cast<unsigned char>(right[0]));
}

void SafeCuts::Split(std::string_view word, std::vector<uint32_t>& ends) const {
  uint32_t before = 0;
  for (size_t at = 0; at < word.size();) {
    const uint32_t length = unicode::SequenceLength(static_cast<unsigned char>(word[at]));
    const uint32_t character = Pack(word.substr(at, length));
    if (at > 0 && (length > 1 || before >= 0x80) &&
        !MayJoin(before, character, static_cast<unsigned char>(word[at - 1]), static_cast<unsigned char>(word[at]))) {
      ends.push_back(static_cast<uint32_t>(at));
    }
    before = character;
    at += length;
  }
  ends.push_back(static_cast<uint32_t>(word.size()));
}

}  // namespace apr
