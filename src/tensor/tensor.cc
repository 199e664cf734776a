// See tensor.h.
#include "tensor/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "base/check.h"

namespace apr {

Shape::Shape(std::span<const int64_t> dims) : ndim_(static_cast<int>(dims.size())) {
  APR_CHECK(dims.size() <= kMaxDims);
  std::copy(dims.begin(), dims.end(), dims_);
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(dims(), other.dims());
}

int64_t Shape::num_elements() const {
  int64_t n = 1;
  for (const int64_t d : dims()) n *= d;
  return n;
}

int64_t Shape::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < ndim_; ++i) n *= dims_[i];
  return n;
}

std::optional<int64_t> Shape::NumElementsChecked() const {
  int64_t n = 1;
  bool zero = false;
  for (const int64_t d : dims()) {
    if (d < 0) return std::nullopt;
    if (d == 0) zero = true;
    else if (__builtin_mul_overflow(n, d, &n)) return std::nullopt;
  }
  return zero ? 0 : n;
}

std::string Shape::ToString() const {
  std::string out = "[";
  for (int i = 0; i < ndim_; ++i) out += (i > 0 ? ", " : "") + std::to_string(dims_[i]);
  return out + "]";
}

std::optional<uint64_t> StorageBytes(DType dtype, const Shape& shape) {
  const DTypeInfo& info = InfoOf(dtype);
  const std::optional<int64_t> n = shape.NumElementsChecked();
  if (!n) return std::nullopt;
  if (dtype == DType::kAprQ8) return *n == 0 ? 0 : static_cast<uint64_t>(*n) + 4;
  if (dtype == DType::kAprQ4) return (static_cast<uint64_t>(*n) + 31) / 32 * 18;
  if (*n == 0) return 0;
  // The sub-byte floats of safetensors fill whole bytes over the tensor, not in every row.
  const bool flat = info.safetensors_name != nullptr;
  if ((flat ? *n : shape.cols()) % info.block_elems != 0) return std::nullopt;
  return CheckedMul(static_cast<uint64_t>(*n) / info.block_elems, info.block_bytes);
}

TensorView TensorView::Rows(int64_t first, int64_t count) const {
  APR_CHECK(first >= 0 && count >= 0 && first + count <= rows());
  const uint64_t stride = row_bytes();
  return {dtype, Shape{count, cols()},
          bytes.subspan(static_cast<size_t>(first) * stride, static_cast<size_t>(count) * stride)};
}

void Tensor::Free::operator()(std::byte* p) const { std::free(p); }

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(shape) {
  const std::optional<uint64_t> bytes = StorageBytes(dtype, shape);
  APR_CHECK(bytes.has_value());
  size_ = *bytes;
  const size_t rounded = AlignUp(std::max<size_t>(size_, 1), 64);
  auto* p = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
  if (p == nullptr) throw std::bad_alloc();
  std::memset(p, 0, rounded);
  data_.reset(p);
}

std::span<float> Tensor::f32() {
  APR_CHECK(dtype_ == DType::kF32);
  return {reinterpret_cast<float*>(data_.get()), size_ / 4};
}
std::span<const float> Tensor::f32() const {
  APR_CHECK(dtype_ == DType::kF32);
  return {reinterpret_cast<const float*>(data_.get()), size_ / 4};
}
std::span<double> Tensor::f64() {
  APR_CHECK(dtype_ == DType::kF64);
  return {reinterpret_cast<double*>(data_.get()), size_ / 8};
}
std::span<const double> Tensor::f64() const {
  APR_CHECK(dtype_ == DType::kF64);
  return {reinterpret_cast<const double*>(data_.get()), size_ / 8};
}

}  // namespace apr
