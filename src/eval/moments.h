// Mean, spread and standard error of a stream of numbers; percentiles of a stored one.
#pragma once

#include <cstdint>
#include <vector>

namespace apr {

// Welford's recurrence (Technometrics 4, 1962). Standard errors take the values as independent.
class Moments {
 public:
  void Add(double value);
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double variance() const;        // of the sample, divided by n - 1; 0 for fewer than two values
  double standard_error() const;  // of the mean

 private:
  int64_t count_ = 0;
  double mean_ = 0;
  double squares_ = 0;
};

// Of two streams that belong together.
class PairedMoments {
 public:
  void Add(double a, double b);
  const Moments& a() const { return a_; }
  const Moments& b() const { return b_; }
  const Moments& difference() const { return difference_; }  // b - a
  double correlation() const;  // Pearson's; 0 where one does not vary

 private:
  Moments a_, b_, difference_;
  double products_ = 0;
};

// Linear between the two nearest ranks, as numpy.percentile does it by default. `sorted`: ascending, not empty.
double Percentile(const std::vector<double>& sorted, double percent);

}  // namespace apr
