// Rows of a tensor of a file, which may be packed, and the weights that are made of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "format/model_file.h"
#include "graph/weight.h"
#include "tensor/tensor.h"

namespace apr {

// Borrows the file. A vector may be seen as one element per row.
class StoredRows {
 public:
  StoredRows(const ModelFile& file, const TensorInfo& info);

  const Shape& shape() const { return layout_.shape; }
  DType dtype() const { return layout_.dtype; }
  int64_t rows() const { return layout_.rows(); }
  // The same rows, or some of them, as something else. Throws kModelLoad where there are no rows to point at.
  StoredRows As(const Shape& shape) const;
  StoredRows Part(int64_t first, int64_t count, const Shape& shape) const;

  // The rows as they stand: in place, or computed.
  WeightRef InPlace() const;
  // Row i is row order[i] of these, copied as it stands.
  WeightRef Gathered(std::vector<int64_t> order, const Shape& shape) const;
  // Row i is column first + i * step. Plain types keep their dtype; block types, whose blocks run along rows, become f32.
  WeightRef Turned(int64_t first, int64_t step, const Shape& shape) const;
  // All values as rows of f32, for types whose rows cannot be pointed at: one scale for the whole tensor, or blocks
  // across rows.
  StoredRows Decoded() const;
  // Null unless they are computed.
  std::shared_ptr<const void> Hold() const { return computed_ ? computed_->Hold() : nullptr; }

 private:
  void RequireRows() const;
  uint64_t PackedRowBytes() const;
  int64_t PackedRow(const std::byte* place) const;
  void Read(int64_t first, int64_t count, std::span<std::byte> out) const;
  std::vector<std::byte> ReadDecoded(DType& dtype) const;
  float Step(int64_t row, int64_t col) const;
  // Element [row, col] of a weight made of these rows is element `at(row, col)` of them.
  using Places = std::function<std::pair<int64_t, int64_t>(int64_t row, int64_t col)>;
  std::shared_ptr<const WeightGrid> Grid(int64_t cols, Places at) const;
  WeightRef Computed(DType dtype, const Shape& shape, uint64_t bytes, ComputedBytes::Compute compute) const;

  const MappedFile* file_;
  std::string name_;
  TensorView layout_;  // of packed rows: places, no bytes
  std::shared_ptr<const PackedWeight> packed_;
  const std::byte* begin_ = nullptr;  // place of the packed tensor's first row
  std::shared_ptr<const ComputedBytes> computed_;  // which hold the bytes of layout_; null: a file does
  TensorView decoded_from_;            // where computed_ is set
};

}  // namespace apr
