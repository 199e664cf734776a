// Borders between characters that no token of a byte-level vocabulary crosses. Byte-pair merging never
// joins what lies left and right of such a border, so a long word may be cut there and its parts
// looked up and merged on their own: the tokens are the same, whatever the order of merges.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/vocabulary.h"

namespace apr {

class SafeCuts {
 public:
  // `vocabulary` in the byte-level spelling. Superset of its merges' results: cuts stay right.
  explicit SafeCuts(const Vocabulary& vocabulary);

  // Appends the ends of the parts of `word` (well-formed UTF-8), its own end the last. Borders
  // between two ASCII characters are never cut.
  void Split(std::string_view word, std::vector<uint32_t>& ends) const;

  // Whether a token may hold the end of `left` and the beginning of `right`, two characters.
  bool MayJoin(std::string_view left, std::string_view right) const;

 private:
  static constexpr int kShift = 64 - 21;  // 2^21 bits
  static uint64_t Bit(uint32_t left, uint32_t right) {
    return MixHash(left ^ 0x9E3779B97F4A7C15u, right ^ 0xC2B2AE3D27D4EB4Fu) >> kShift;
  }
  static uint32_t Pack(std::string_view character);
  void AddBorder(std::string_view token, size_t at);
  bool MayJoin(uint32_t left, uint32_t right, unsigned char last, unsigned char first) const {
    const uint64_t bit = Bit(left, right);
    if (whole_[bit >> 6] >> (bit & 63) & 1) return true;
    const size_t pair = static_cast<size_t>(last) << 8 | first;
    return parts_[pair >> 6] >> (pair & 63) & 1;
  }

  // Pairs of characters that some token holds in a row, as a filter: a wrong yes costs a cut.
  std::vector<uint64_t> whole_ = std::vector<uint64_t>(size_t{1} << (64 - kShift - 6));
  // Pairs of bytes at borders where a token holds only a part of one of the characters.
  std::vector<uint64_t> parts_ = std::vector<uint64_t>(65536 / 64);
};

}  // namespace apr
