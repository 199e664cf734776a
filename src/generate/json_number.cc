// See json_number.h.
#include "generate/json_number.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace apr {
namespace {

constexpr int64_t kMost = 9999999999999999;

GrammarExpr Digit(char from, char to) {
  return GrammarExpr::Class({{static_cast<uint32_t>(from), static_cast<uint32_t>(to)}});
}
GrammarExpr AnyDigits(size_t count) {
  return GrammarExpr::Repeat(Digit('0', '9'), static_cast<int64_t>(count), static_cast<int64_t>(count));
}

// Numbers of as many digits as both bounds.
GrammarExpr SameLength(const std::string& least, const std::string& most) {
  size_t common = 0;
  while (common < least.size() && least[common] == most[common]) ++common;
  GrammarExpr head = GrammarExpr::Text(least.substr(0, common));
  if (common == least.size()) return head;
  const std::string low = least.substr(common);
  const std::string high = most.substr(common);
  if (low.find_first_not_of('0') == low.npos && high.find_first_not_of('9') == high.npos) {
    return GrammarExpr::Sequence({std::move(head), AnyDigits(low.size())});
  }
  const std::string nines(low.size() - 1, '9');
  const std::string zeros(low.size() - 1, '0');
  std::vector<GrammarExpr> parts;
  parts.push_back(GrammarExpr::Sequence({GrammarExpr::Text(low.substr(0, 1)), SameLength(low.substr(1), nines)}));
  if (high[0] - low[0] > 1) {
    parts.push_back(GrammarExpr::Sequence({Digit(static_cast<char>(low[0] + 1), static_cast<char>(high[0] - 1)), AnyDigits(nines.size())}));
  }
  parts.push_back(GrammarExpr::Sequence({GrammarExpr::Text(high.substr(0, 1)), SameLength(zeros, high.substr(1))}));
  return GrammarExpr::Sequence({std::move(head), GrammarExpr::Choice(std::move(parts))});
}

// Bounds as whole numbers, what is excluded moved inwards.
struct WholeBounds {
  int64_t least, most;
};
WholeBounds Whole(const NumberBounds& b) {
  WholeBounds out{-kMost, kMost};
  if (b.least) {
    const double up = std::ceil(*b.least);
    const double least = b.least_excluded && up == *b.least ? up + 1 : up;
    out.least = least > static_cast<double>(kMost) ? kMost + 1 : std::max(-kMost, static_cast<int64_t>(std::max(least, -1e16)));
  }
  if (b.most) {
    const double down = std::floor(*b.most);
    const double most = b.most_excluded && down == *b.most ? down - 1 : down;
    out.most = most < static_cast<double>(-kMost) ? -kMost - 1 : std::min(kMost, static_cast<int64_t>(std::min(most, 1e16)));
  }
  return out;
}

void AddWhole(const WholeBounds& b, std::vector<GrammarExpr>& parts) {
  if (b.least > b.most) return;
  if (b.most >= 0) parts.push_back(DigitsExpr(std::max<int64_t>(b.least, 0), b.most));
  if (b.least < 0) {
    parts.push_back(GrammarExpr::Sequence({GrammarExpr::Text("-"), DigitsExpr(std::max<int64_t>(1, -b.most), -b.least)}));
  }
}

}  // namespace

GrammarExpr DigitsExpr(int64_t least, int64_t most) {
  std::vector<GrammarExpr> parts;
  for (int64_t power = 10; least <= most; power *= 10) {
    if (least >= power) continue;
    const int64_t end = std::min(most, power - 1);
    parts.push_back(SameLength(std::to_string(least), std::to_string(end)));
    least = end + 1;
  }
  return GrammarExpr::Choice(std::move(parts));
}

GrammarExpr IntegerExpr(const NumberBounds& bounds) {
  std::vector<GrammarExpr> parts;
  AddWhole(Whole(bounds), parts);
  return GrammarExpr::Choice(std::move(parts));
}

GrammarExpr NumberExpr(const NumberBounds& bounds) {
  std::vector<GrammarExpr> parts;
  const WholeBounds whole = Whole(bounds);
  AddWhole(whole, parts);
  // n.d with a digit that is not 0 lies strictly between n and n + 1, -n.d between -n - 1 and -n.
  const double least = bounds.least.value_or(-1e16);
  const double most = bounds.most.value_or(1e16);
  const GrammarExpr fraction = GrammarExpr::Sequence(
      {GrammarExpr::Text("."), GrammarExpr::Repeat(Digit('0', '9'), 0, 15), Digit('1', '9')});
  const auto bounded = [](double x) { return static_cast<int64_t>(std::clamp(x, -1.0, static_cast<double>(kMost))); };
  const int64_t first = bounded(std::max(0.0, std::ceil(least)));
  const int64_t last = bounded(std::floor(most) - 1);
  if (first <= last) parts.push_back(GrammarExpr::Sequence({DigitsExpr(first, last), fraction}));
  const int64_t first_below = bounded(std::max(0.0, std::ceil(-most)));
  const int64_t last_below = bounded(std::floor(-least) - 1);
  if (first_below <= last_below) {
    parts.push_back(GrammarExpr::Sequence({GrammarExpr::Text("-"), DigitsExpr(first_below, last_below), fraction}));
  }
  return GrammarExpr::Choice(std::move(parts));
}

}  // namespace apr
