// See kv_rows.h.
#include "op/attention/kv_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "op/scratch.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr float kLargestF16 = 65504.0F;

int64_t PaddedWidth(DType dtype, int64_t width) {
  const int64_t block = InfoOf(dtype).block_elems;
  return (width + block - 1) / block * block;
}

template <typename Real>
void Encode(DType dtype, const Real* x, int64_t width, std::byte* out) {
  static thread_local Scratch scratch;
  const int64_t padded = PaddedWidth(dtype, width);
  auto* row = scratch.Get<float>(padded);
  for (int64_t i = 0; i < width; ++i) {
    row[i] = static_cast<float>(x[i]);
    if (!(std::abs(row[i]) <= kLargestF16)) {
      throw Error(ErrorCode::kInference, fmt::format("a key or value is {}: a cache of type {} cannot hold it", row[i], NameOf(dtype)));
    }
  }
  std::fill(row + width, row + padded, 0.0F);
  EncodeRows(dtype, row, 1, padded, nullptr, out);
}

template <typename Real>
void Decode(DType dtype, const std::byte* row, int64_t width, Real* out) {
  static thread_local Scratch scratch;
  const int64_t padded = PaddedWidth(dtype, width);
  auto* values = scratch.Get<float>(padded);
  DecodeRow(dtype, row, padded, values);
  std::copy_n(values, width, out);
}

}  // namespace

int64_t CacheRowBytes(DType dtype, int64_t width) {
  return static_cast<int64_t>(*StorageBytes(dtype, Shape{1, PaddedWidth(dtype, width)}));
}

template <typename Real>
void WriteKvRow(const KvCache<Real>& cache, int64_t head, int64_t position, const Real* key, const Real* value) {
  if (!cache.is_packed()) {
    std::copy_n(key, cache.k_dim, cache.key(head, position));
    std::copy_n(value, cache.v_dim, cache.value(head, position));
    return;
  }
  const PackedKv& p = cache.packed;
  const int64_t row = head * cache.capacity + position;
  Encode(p.dtype, key, cache.k_dim, p.keys + row * p.k_row_bytes);
  Encode(p.dtype, value, cache.v_dim, p.values + row * p.v_row_bytes);
}

template <typename Real>
void ReadPackedKeys(const KvCache<Real>& cache, int64_t head, int64_t first, int64_t count, int64_t stride, Real* out) {
  const PackedKv& p = cache.packed;
  const std::byte* rows = p.keys + (head * cache.capacity + first) * p.k_row_bytes;
  for (int64_t i = 0; i < count; ++i) Decode(p.dtype, rows + i * p.k_row_bytes, cache.k_dim, out + i * stride);
}

template <typename Real>
void ReadPackedValues(const KvCache<Real>& cache, int64_t head, int64_t first, int64_t count, int64_t stride, Real* out) {
  const PackedKv& p = cache.packed;
  const std::byte* rows = p.values + (head * cache.capacity + first) * p.v_row_bytes;
  for (int64_t i = 0; i < count; ++i) Decode(p.dtype, rows + i * p.v_row_bytes, cache.v_dim, out + i * stride);
}

template void WriteKvRow(const KvCache<float>&, int64_t, int64_t, const float*, const float*);
template void WriteKvRow(const KvCache<double>&, int64_t, int64_t, const double*, const double*);
template void ReadPackedKeys(const KvCache<float>&, int64_t, int64_t, int64_t, int64_t, float*);
template void ReadPackedKeys(const KvCache<double>&, int64_t, int64_t, int64_t, int64_t, double*);
template void ReadPackedValues(const KvCache<float>&, int64_t, int64_t, int64_t, int64_t, float*);
template void ReadPackedValues(const KvCache<double>&, int64_t, int64_t, int64_t, int64_t, double*);

}  // namespace apr
