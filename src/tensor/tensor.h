// Shape, TensorView (borrows) and Tensor (owns). Row-major: the last dimension is contiguous; a
// weight matrix is [out, in].
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "tensor/dtype.h"

namespace apr {

class Shape {
 public:
  static constexpr int kMaxDims = 8;

  Shape() = default;  // 0-D: one element
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);

  int ndim() const { return ndim_; }
  int64_t operator[](int i) const { return dims_[i]; }
  std::span<const int64_t> dims() const { return {dims_, static_cast<size_t>(ndim_)}; }
  bool operator==(const Shape& other) const;

  // Product of the dims. Readers have checked that it fits (NumElementsChecked).
  int64_t num_elements() const;
  // Product of all dims but the last (1 if 0-D), and the last dim (1 if 0-D).
  int64_t rows() const;
  int64_t cols() const { return ndim_ == 0 ? 1 : dims_[ndim_ - 1]; }
  // nullopt if a dim is negative or the product exceeds 2^63 - 1.
  std::optional<int64_t> NumElementsChecked() const;

  std::string ToString() const;  // "[12, 512]"

 private:
  int64_t dims_[kMaxDims] = {};
  int ndim_ = 0;
};

// Bytes of `shape` stored as `dtype`, rows made of whole blocks. nullopt when the last dimension is
// no multiple of the block or the size overflows.
std::optional<uint64_t> StorageBytes(DType dtype, const Shape& shape);

// A borrowed tensor. The owner of the bytes must outlive it.
struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  Bytes bytes;

  int64_t rows() const { return shape.rows(); }
  int64_t cols() const { return shape.cols(); }
  uint64_t row_bytes() const { return rows() == 0 ? 0 : bytes.size() / static_cast<uint64_t>(rows()); }
  // Rows [first, first + count) as a 2-D view [count, cols].
  TensorView Rows(int64_t first, int64_t count) const;
};

// An owned tensor, 64-byte aligned, zero-filled at construction.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape);
  Tensor(Tensor&&) = default;
  Tensor& operator=(Tensor&&) = default;

  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  TensorView view() const { return {dtype_, shape_, {data_.get(), size_}}; }
  std::span<std::byte> mutable_bytes() { return {data_.get(), size_}; }
  // dtype() must be kF32 / kF64.
  std::span<float> f32();
  std::span<const float> f32() const;
  std::span<double> f64();
  std::span<const double> f64() const;

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  DType dtype_ = DType::kF32;
  Shape shape_{0};
  std::unique_ptr<std::byte[], Free> data_;
  size_t size_ = 0;
};

}  // namespace apr
