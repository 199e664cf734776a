// See repetition.h.
#include "generate/repetition.h"

#include <algorithm>
#include <vector>

namespace apr {
namespace {

// z[i]: length of the longest common beginning of `text` and text[i..] (Gusfield, "Algorithms on Strings, Trees
// and Sequences", 1997, section 1.4).
std::vector<int64_t> CommonBeginnings(std::span<const int32_t> text) {
  const auto n = static_cast<int64_t>(text.size());
  std::vector<int64_t> z(text.size());
  int64_t left = 0;
  int64_t right = 0;
  for (int64_t i = 1; i < n; ++i) {
    int64_t length = i < right ? std::min(right - i, z[static_cast<size_t>(i - left)]) : 0;
    while (i + length < n && text[static_cast<size_t>(length)] == text[static_cast<size_t>(i + length)]) ++length;
    z[static_cast<size_t>(i)] = length;
    if (i + length > right) {
      left = i;
      right = i + length;
    }
  }
  return z;
}

}  // namespace

std::map<int32_t, int64_t> RepetitionLengths(std::span<const int32_t> history, const TokenMask& breakers) {
  const std::vector<int32_t> backwards(history.rbegin(), history.rend());
  const auto broken = std::ranges::find_if(backwards, [&](int32_t id) { return breakers.Contains(id); });
  const int64_t most = broken - backwards.begin();
  std::map<int32_t, int64_t> out;
  if (most == 0) return out;
  const std::vector<int64_t> z = CommonBeginnings(backwards);
  for (size_t i = 1; i < backwards.size(); ++i) {
    const int64_t length = std::min(z[i], most);
    const int32_t next = backwards[i - 1];
    if (length == 0 || breakers.Contains(next)) continue;
    int64_t& longest = out[next];
    longest = std::max(longest, length);
  }
  return out;
}

}  // namespace apr
