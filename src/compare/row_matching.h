// Which row of some tensors a given row is: nearest by a sketch of random signs, verified element by element.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace apr::search {

struct RowRef {
  int64_t part = -1;   // of the pool; -1: no row is near
  int64_t row = 0;
};

// Rows of one or several tensors of equal width, part after part. Borrows nothing.
class RowPool {
 public:
  explicit RowPool(int64_t cols) : cols_(cols) {}
  void Add(std::vector<float> values);          // rows() more rows, as the next part
  int64_t parts() const { return static_cast<int64_t>(first_.size()); }
  int64_t rows(int64_t part) const;
  int64_t total_rows() const { return cols_ == 0 ? 0 : static_cast<int64_t>(values_.size()) / cols_; }
  const float* Row(RowRef ref) const { return &values_[static_cast<size_t>((first_[static_cast<size_t>(ref.part)] + ref.row) * cols_)]; }

  // For each row of `wanted` the row of the pool that it is, within a relative error of `enough`. Row i is
  // first tried as row places[i] of part 0.
  std::vector<RowRef> Match(std::span<const float> wanted, std::span<const int64_t> places, double enough) const;
  bool IsNear(RowRef ref, const float* row, double enough) const;

 private:
  RowRef RefOf(int64_t index) const;
  std::vector<RowRef> MatchScalars(std::span<const float> wanted, std::span<const int64_t> places, double enough) const;
  std::vector<float> Sketches(std::span<const float> rows) const;

  int64_t cols_;
  std::vector<float> values_;
  std::vector<int64_t> first_;   // row at which each part begins
};

// "rows 0..63 are A's v 0..63; rows ...": runs of consecutive rows, at most six.
std::string DescribeRows(std::span<const RowRef> map, std::span<const std::string> names);

}  // namespace apr::search
