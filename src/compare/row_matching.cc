// See row_matching.h.
#include "compare/row_matching.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace apr::search {
namespace {

constexpr int kDims = 24;

// Random signs, the same in every run (splitmix64).
std::vector<float> Signs(int64_t cols) {
  std::vector<float> out(static_cast<size_t>(cols * kDims));
  uint64_t state = 0x9E3779B97F4A7C15u;
  for (float& sign : out) {
    state += 0x9E3779B97F4A7C15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    sign = ((z ^ (z >> 31)) & 1) != 0 ? 1.0f : -1.0f;
  }
  return out;
}

}  // namespace

void RowPool::Add(std::vector<float> values) {
  first_.push_back(total_rows());
  values_.insert(values_.end(), values.begin(), values.end());
}

int64_t RowPool::rows(int64_t part) const {
  const int64_t end = part + 1 < parts() ? first_[static_cast<size_t>(part) + 1] : total_rows();
  return end - first_[static_cast<size_t>(part)];
}

RowRef RowPool::RefOf(int64_t index) const {
  const auto next = std::upper_bound(first_.begin(), first_.end(), index);
  const int64_t part = next - first_.begin() - 1;
  return {part, index - first_[static_cast<size_t>(part)]};
}

bool RowPool::IsNear(RowRef ref, const float* row, double enough) const {
  const float* own = Row(ref);
  double square = 0, size = 0;
  for (int64_t c = 0; c < cols_; ++c) {
    const double d = static_cast<double>(own[c]) - row[c];
    square += d * d;
    size += static_cast<double>(own[c]) * own[c];
  }
  return square <= enough * enough * size;
}

std::vector<float> RowPool::Sketches(std::span<const float> rows) const {
  const std::vector<float> signs = Signs(cols_);
  const auto count = static_cast<int64_t>(rows.size()) / cols_;
  std::vector<float> out(static_cast<size_t>(count * kDims));
  for (int64_t r = 0; r < count; ++r) {
    float sum[kDims] = {};
    const float* row = &rows[static_cast<size_t>(r * cols_)];
    for (int64_t c = 0; c < cols_; ++c) {
      const float* sign = &signs[static_cast<size_t>(c * kDims)];
      for (int d = 0; d < kDims; ++d) sum[d] += row[c] * sign[d];
    }
    std::copy(sum, sum + kDims, &out[static_cast<size_t>(r * kDims)]);
  }
  return out;
}

std::vector<RowRef> RowPool::MatchScalars(std::span<const float> wanted, std::span<const int64_t> places, double enough) const {
  std::vector<int64_t> order(values_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return values_[static_cast<size_t>(x)] < values_[static_cast<size_t>(y)]; });
  std::vector<RowRef> out(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    const RowRef own{0, places[i]};
    if (IsNear(own, &wanted[i], enough)) {
      out[i] = own;
      continue;
    }
    const auto at = std::lower_bound(order.begin(), order.end(), wanted[i], [&](int64_t x, float v) { return values_[static_cast<size_t>(x)] < v; });
    double best = INFINITY;
    for (const int64_t step : {-1, 0}) {
      const auto near = at + step;
      if (near < order.begin() || near >= order.end()) continue;
      const double d = std::abs(static_cast<double>(values_[static_cast<size_t>(*near)]) - wanted[i]);
      if (d < best && IsNear(RefOf(*near), &wanted[i], enough)) {
        best = d;
        out[i] = RefOf(*near);
      }
    }
  }
  return out;
}

std::vector<RowRef> RowPool::Match(std::span<const float> wanted, std::span<const int64_t> places, double enough) const {
  if (cols_ == 1) return MatchScalars(wanted, places, enough);
  const std::vector<float> mine = Sketches(values_), theirs = Sketches(wanted);
  const auto count = static_cast<int64_t>(wanted.size()) / cols_;
  std::vector<RowRef> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const float* row = &wanted[static_cast<size_t>(i * cols_)];
    const RowRef own{0, places[static_cast<size_t>(i)]};
    if (IsNear(own, row, enough)) {
      out[static_cast<size_t>(i)] = own;
      continue;
    }
    float best = INFINITY;
    int64_t nearest = -1;
    const float* sketch = &theirs[static_cast<size_t>(i * kDims)];
    for (int64_t r = 0; r < total_rows(); ++r) {
      const float* other = &mine[static_cast<size_t>(r * kDims)];
      float square = 0;
      for (int d = 0; d < kDims; ++d) square += (other[d] - sketch[d]) * (other[d] - sketch[d]);
      if (square < best) {
        best = square;
        nearest = r;
      }
    }
    if (nearest >= 0 && IsNear(RefOf(nearest), row, enough)) out[static_cast<size_t>(i)] = RefOf(nearest);
  }
  return out;
}

std::string DescribeRows(std::span<const RowRef> map, std::span<const std::string> names) {
  std::string out;
  int shown = 0;
  for (size_t i = 0; i < map.size();) {
    size_t end = i + 1;
    while (end < map.size() && map[end].part == map[i].part && map[end].row == map[i].row + static_cast<int64_t>(end - i)) ++end;
    if (++shown > 6) return out + "; ...";
    if (shown > 1) out += "; ";
    out += fmt::format("rows {}..{} are {} {}..{}", i, end - 1, map[i].part < 0 ? "?" : names[static_cast<size_t>(map[i].part)], map[i].row,
                       map[i].row + static_cast<int64_t>(end - i) - 1);
    i = end;
  }
  return out;
}

}  // namespace apr::search
