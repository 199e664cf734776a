// See utf8_ranges.h.
#include "generate/utf8_ranges.h"

#include <algorithm>
#include <array>

namespace apr {
namespace {

constexpr uint32_t kLastOfLength[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};

// The bytes of a code point in UTF-8 and their number.
size_t Encode(uint32_t c, std::array<uint8_t, 4>& out) {
  if (c <= 0x7F) {
    out[0] = static_cast<uint8_t>(c);
    return 1;
  }
  const size_t length = c <= 0x7FF ? 2 : c <= 0xFFFF ? 3 : 4;
  constexpr uint8_t kLead[] = {0, 0, 0xC0, 0xE0, 0xF0};
  for (size_t i = length - 1; i > 0; --i, c >>= 6) out[i] = static_cast<uint8_t>(0x80 | (c & 0x3F));
  out[0] = static_cast<uint8_t>(kLead[length] | c);
  return length;
}

// [first, last] of one length. Split until all bytes behind the first one that differs take all their values.
void AddSplit(uint32_t first, uint32_t last, std::vector<ByteRanges>& out) {
  for (uint32_t i = 1; i < 4; ++i) {
    const uint32_t low = (uint32_t{1} << (6 * i)) - 1;
    if ((first & ~low) == (last & ~low)) break;
    if ((first & low) != 0) {
      AddSplit(first, first | low, out);
      AddSplit((first | low) + 1, last, out);
      return;
    }
    if ((last & low) != low) {
      AddSplit(first, (last & ~low) - 1, out);
      AddSplit(last & ~low, last, out);
      return;
    }
  }
  std::array<uint8_t, 4> a{};
  std::array<uint8_t, 4> b{};
  const size_t length = Encode(first, a);
  Encode(last, b);
  ByteRanges ranges;
  for (size_t i = 0; i < length; ++i) ranges.emplace_back(a[i], b[i]);
  out.push_back(std::move(ranges));
}

}  // namespace

std::vector<ByteRanges> Utf8Ranges(uint32_t first, uint32_t last) {
  std::vector<ByteRanges> out;
  last = std::min<uint32_t>(last, 0x10FFFF);
  uint32_t from = 0;
  for (const uint32_t end : kLastOfLength) {
    uint32_t a = std::max(first, from);
    const uint32_t b = std::min(last, end);
    from = end + 1;
    if (a > b) continue;
    // Surrogates are no characters.
    if (a < 0xD800 && b >= 0xD800) {
      AddSplit(a, 0xD7FF, out);
      a = 0xE000;
    } else if (a >= 0xD800 && a < 0xE000) {
      a = 0xE000;
    }
    if (a <= b && !(b >= 0xD800 && b < 0xE000)) AddSplit(a, b, out);
  }
  return out;
}

}  // namespace apr
