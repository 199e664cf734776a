// A weight slot bound to bytes: a view of the file where possible, rows in another order if the
// file keeps them so, bytes computed from the file where the layout has to change.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/computed_bytes.h"
#include "tensor/tensor.h"

namespace apr {

// The grid that packed codes put values on, for judging how far from another file's they must lie.
struct WeightGrid {
  std::string name;    // for messages: "GPTQ int4"
  // Of rows [first, first + count): the distance of each element to the next value of its code.
  std::function<void(int64_t first, int64_t count, float* steps)> steps;
  double typical = 0;  // relative error of storing Gaussian values so
  double freedom = 1;  // how much farther than the nearest one a code may be: GPTQ lets later columns make up for earlier ones
};

struct WeightRef {
  // [rows, cols] (or [n]) as stored. Rows of quantised types are whole blocks.
  TensorView view;
  // Canonical row r is row (*row_order)[r] of `view`. Null: the same order.
  std::shared_ptr<const std::vector<int32_t>> row_order;
  // Canonical value = stored value + add (f64 arithmetic): a norm stored as w + 1 has add = -1.
  double add = 0;
  // Where the bytes of `view` are computed: they are there while somebody holds them. Null: they are there.
  std::shared_ptr<const ComputedBytes> computed;
  // Keeps the bytes of `view` there when they are no part of a mapped file: a tensor, or what holds `computed`.
  std::shared_ptr<const void> owned;
  // Null: the view's type says what storing did.
  std::shared_ptr<const WeightGrid> grid;
  // Where it came from, for messages: the file's own tensor name.
  std::string source;

  int64_t rows() const { return view.rows(); }
  int64_t cols() const { return view.cols(); }
  // The bytes are there as long as what this returns lives (and, without `computed`, as long as the file does).
  std::shared_ptr<const void> Hold() const { return owned || !computed ? owned : computed->Hold(); }
};

}  // namespace apr
