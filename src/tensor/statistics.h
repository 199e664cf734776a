// Statistics of the elements of a tensor: for people to look at. Comparisons look at elements.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

namespace apr {

// Of n elements, those that are finite enter mean, std, l2, min, max and max_abs; NaN and infinities
// are counted apart. Nothing finite: these are NaN.
struct Statistics {
  uint64_t count = 0;
  uint64_t nan_count = 0;
  uint64_t inf_count = 0;
  uint64_t zero_count = 0;
  double mean = std::numeric_limits<double>::quiet_NaN();
  double std = std::numeric_limits<double>::quiet_NaN();  // of the population
  double l2_norm = std::numeric_limits<double>::quiet_NaN();
  double min = std::numeric_limits<double>::quiet_NaN();
  double max = std::numeric_limits<double>::quiet_NaN();
  double max_abs = std::numeric_limits<double>::quiet_NaN();
};

// Adds up pieces; the result does not depend on their sizes only if they come in the same order.
class StatisticsBuilder {
 public:
  void Add(std::span<const float> values);
  void Add(std::span<const double> values);
  Statistics Finish() const;

 private:
  template <typename Real>
  void AddAll(std::span<const Real> values);

  uint64_t count_ = 0, nan_ = 0, inf_ = 0, zero_ = 0;
  double mean_ = 0, deviation_ = 0;  // Welford's running mean and sum of squared deviations
  double squares_ = 0;
  double min_ = std::numeric_limits<double>::infinity();
  double max_ = -std::numeric_limits<double>::infinity();
};

}  // namespace apr
