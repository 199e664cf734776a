// The elements of one side of a weight comparison, read in runs of rows: a weight of a file, or a small
// change of one that is tried as a hypothesis.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "compare/chunk_kernels.h"
#include "graph/weight.h"
#include "tensor/tensor.h"

namespace apr {

// Elements that lie in storage in their order, in runs of 256 that decode each by itself; where rows are permuted, a
// row is whole runs.
struct PackedRuns {
  std::optional<RunType> plain;  // where the comparison reads the elements as they lie
  void (*decode)(const std::byte* run, int64_t count, float* out) = nullptr;
  const std::byte* bytes = nullptr;
  int64_t run_bytes = 0;
  int64_t runs_per_row = 0;
  const std::vector<int32_t>* row_order = nullptr;  // stored row of each row, or null

  const std::byte* At(int64_t run) const {
    if (row_order == nullptr) return bytes + run * run_bytes;
    return bytes + (int64_t{(*row_order)[static_cast<size_t>(run / runs_per_row)]} * runs_per_row + run % runs_per_row) * run_bytes;
  }
};

struct WeightValues {
  int64_t rows = 0, cols = 0;
  DType dtype = DType::kF32;  // whose storage error the values carry
  // What was added after decoding rounded away of it: the stored value lay `shift` away from the canonical one.
  double shift = 0;
  // Relative error that computing the values in f32 leaves, beside the storage error.
  double rounding = 0;
  // Rows [first, first + count) as f32.
  std::function<void(int64_t first, int64_t count, float* out)> read;
  // Rows contiguous in memory as f32, where they are; else null.
  const float* plain = nullptr;
  std::optional<PackedRuns> runs;
  std::shared_ptr<const WeightGrid> grid;  // packed codes: null where the type says all
  std::shared_ptr<const void> held;        // what keeps the weight's bytes there

  int64_t elements() const { return rows * cols; }
  // Elements [first, first + count) in row-major order.
  std::vector<float> Range(int64_t first, int64_t count) const;
  std::vector<float> All() const { return Range(0, elements()); }
};

// Borrows `weight`, or keeps the vector.
WeightValues ValuesOf(const WeightRef& weight);
WeightValues ValuesOf(std::shared_ptr<const std::vector<float>> values, int64_t rows, int64_t cols, DType dtype);

// Relative error that storing Gaussian values as the weight is stored leaves.
double TypicalError(DType dtype, const std::shared_ptr<const WeightGrid>& grid);
inline double TypicalError(const WeightRef& weight) { return TypicalError(weight.view.dtype, weight.grid); }

// Rows at a time: about `elements`, a multiple of 256 of them unless the tensor is smaller.
int64_t RowsPerPiece(int64_t cols, int64_t elements = 65536);

}  // namespace apr
