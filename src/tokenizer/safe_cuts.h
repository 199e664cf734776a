// Borders between characters, by the tokens of a byte-level vocabulary that cross them. Byte-pair merging never joins
// what lies left and right of a border that no token crosses, so a long word may be cut there and its parts merged on
// their own: the tokens are the same, whatever the order of merges. Where tokens cross the borders of a part only with
// whole characters on both sides, and every merge ranks after all merges that make its parts (MergeRules::ordered),
// merging may start from what each character becomes by itself: a merge over a border needs both of its characters
// done, so none of theirs comes later, and what one character's bytes become does not hang on its neighbours.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "tokenizer/vocabulary.h"

namespace apr {

class SafeCuts {
 public:
  // `vocabulary` in the byte-level spelling. Superset of its merges' results: cuts stay right.
  explicit SafeCuts(const Vocabulary& vocabulary);

  enum class Border : uint8_t {
    kCut,      // no token crosses it
    kWhole,    // tokens may, with both characters whole
    kPartial,  // tokens may, with a part of a character
  };
  // The border between characters `left` and `right`, not both ASCII, in `word` before byte `at`. Never less than the truth.
  Border At(char32_t left, char32_t right, std::string_view word, size_t at) const {
    const size_t pair = BytePair(word[at - 1], word[at]);
    if (parts_[pair >> 6] >> (pair & 63) & 1 && CrossedByPart(word, at)) return Border::kPartial;
    const uint64_t bit = Bit(left, right);
    return whole_[bit >> 6] >> (bit & 63) & 1 ? Border::kWhole : Border::kCut;
  }
  // Whether a word of kLongToken bytes or more, not ASCII alone, may be a token; a wrong yes costs a look.
  static constexpr size_t kLongToken = 8;
  bool MayBeToken(std::string_view word) const {
    const uint64_t bit = TokenBit(word);
    return tokens_[bit >> 6] >> (bit & 63) & 1;
  }

 private:
  static constexpr int kShift = 64 - 21;  // 2^21 bits
  static uint64_t Bit(char32_t left, char32_t right) {
    return (uint64_t{left} << 32 | right) * 0x9E3779B97F4A7C15u >> kShift;
  }
  static uint64_t TokenBit(std::string_view word) {
    return MixHash(LoadLe<uint64_t>(word.data()) ^ word.size(), LoadLe<uint64_t>(word.data() + word.size() - 8) ^ 0x9E3779B97F4A7C15u) >> kShift;
  }
  static size_t BytePair(char last, char first) {
    return static_cast<size_t>(static_cast<unsigned char>(last)) << 8 | static_cast<unsigned char>(first);
  }
  void AddToken(std::string_view token);
  bool CrossedByPart(std::string_view word, size_t at) const;

  // Pairs of characters that some token holds in a row, as a filter: a wrong yes costs a cut.
  std::vector<uint64_t> whole_ = std::vector<uint64_t>(size_t{1} << (64 - kShift - 6));
  std::vector<uint64_t> tokens_ = std::vector<uint64_t>(size_t{1} << (64 - kShift - 6));  // as whole_
  // Pairs of bytes at borders where a token holds only a part of one of the characters.
  std::vector<uint64_t> parts_ = std::vector<uint64_t>(65536 / 64);
  // The bytes of both characters at those borders that the token holds, ordered by the two bytes at the border.
  struct Crossing {
    size_t pair;
    std::string left, right;
  };
  std::vector<Crossing> crossings_;
};

}  // namespace apr
