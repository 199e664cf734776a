// See moments.h.
#include "eval/moments.h"

#include <algorithm>
#include <cmath>

namespace apr {

void Moments::Add(double value) {
  ++count_;
  const double delta = value - mean_;
  mean_ += delta / static_cast<double>(count_);
  squares_ += delta * (value - mean_);
}

double Moments::variance() const { return count_ < 2 ? 0 : squares_ / static_cast<double>(count_ - 1); }
double Moments::standard_error() const { return count_ < 1 ? 0 : std::sqrt(variance() / static_cast<double>(count_)); }

void PairedMoments::Add(double a, double b) {
  const double gap = a - a_.mean();
  a_.Add(a);
  b_.Add(b);
  difference_.Add(b - a);
  products_ += gap * (b - b_.mean());
}

double PairedMoments::correlation() const {
  const double spread = std::sqrt(a_.variance() * b_.variance());
  return spread > 0 ? products_ / static_cast<double>(a_.count() - 1) / spread : 0;
}

double Percentile(const std::vector<double>& sorted, double percent) {
  const double rank = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace apr
