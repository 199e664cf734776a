// Values that the tests of comparing share.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "compare/element_diff.h"

namespace apr {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInf = std::numeric_limits<float>::infinity();

inline ElementDiff Diff(const std::vector<float>& a, const std::vector<float>& b) {
  ElementDiff diff;
  Accumulate(diff, a, b, 0);
  return diff;
}

inline std::vector<float> Wave(size_t n) {
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = std::sin(static_cast<float>(i) * 0.37f) * 0.05f;
  return out;
}

}  // namespace apr
