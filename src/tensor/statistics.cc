// See statistics.h.
#include "tensor/statistics.h"

#include <algorithm>
#include <cmath>

namespace apr {

// Blocks: a plain two-pass mean and deviation of each, merged as Chan, Golub and LeVeque (1979), "Updating
// Formulae and a Pairwise Algorithm for Computing Sample Variances", equations 2.1, do.
template <typename Real>
void StatisticsBuilder::AddAll(std::span<const Real> values) {
  constexpr size_t kBlock = 4096;
  for (size_t at = 0; at < values.size(); at += kBlock) {
    const auto block = values.subspan(at, std::min(kBlock, values.size() - at));
    double sum = 0;
    uint64_t finite = 0;
    for (const Real value : block) {
      const double x = value;
      if (std::isnan(x)) {
        ++nan_;
      } else if (std::isinf(x)) {
        ++inf_;
      } else {
        ++finite;
        sum += x;
        squares_ += x * x;
        zero_ += x == 0 ? 1 : 0;
        min_ = std::min(min_, x);
        max_ = std::max(max_, x);
      }
    }
    if (finite == 0) continue;
    const double mean = sum / static_cast<double>(finite);
    double deviation = 0;
    for (const Real value : block) {
      const double x = value;
      if (std::isfinite(x)) deviation += (x - mean) * (x - mean);
    }
    const auto n = static_cast<double>(count_);
    const auto m = static_cast<double>(finite);
    const double shift = mean - mean_;
    mean_ += shift * m / (n + m);
    deviation_ += deviation + shift * shift * n * m / (n + m);
    count_ += finite;
  }
}

void StatisticsBuilder::Add(std::span<const float> values) { AddAll(values); }
void StatisticsBuilder::Add(std::span<const double> values) { AddAll(values); }

Statistics StatisticsBuilder::Finish() const {
  Statistics s;
  s.count = count_ + nan_ + inf_;
  s.nan_count = nan_;
  s.inf_count = inf_;
  s.zero_count = zero_;
  if (count_ == 0) return s;
  s.mean = mean_;
  s.std = std::sqrt(deviation_ / static_cast<double>(count_));
  s.l2_norm = std::sqrt(squares_);
  s.min = min_;
  s.max = max_;
  s.max_abs = std::max(std::abs(min_), std::abs(max_));
  return s;
}

}  // namespace apr
