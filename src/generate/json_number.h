// Decimal numbers within bounds, as grammar expressions.
#pragma once

#include <cstdint>
#include <optional>

#include "generate/grammar.h"

namespace apr {

struct NumberBounds {
  std::optional<double> least, most;
  bool least_excluded = false, most_excluded = false;
};

// Whole numbers, and all decimal ones without exponent, that lie within the bounds; of at most 16 digits before
// and 16 behind the point. A choice without parts: there is none.
GrammarExpr IntegerExpr(const NumberBounds& bounds);
GrammarExpr NumberExpr(const NumberBounds& bounds);

// Whole numbers of [least, most], 0 <= least <= most < 10^16, without leading zeros.
GrammarExpr DigitsExpr(int64_t least, int64_t most);

}  // namespace apr
