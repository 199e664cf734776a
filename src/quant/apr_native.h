// The two quantised types of .apr files. They run over the whole tensor, not over rows.
//
//   type    size                 decode
//   APR_Q8  4 + N bytes          scale * q                q int8, one f32 scale for the tensor
//   APR_Q4  18 * ceil(N / 32)    (nibble - 8) * scale     f16 scale per 32 elements
//
// Encoding. APR_Q8: scale = max|x| / 127 (1 if all are 0), q = x / scale rounded half away from
// zero, clamped to +-127; an empty tensor has no bytes. APR_Q4: scale = max|x| / 7 in f32 (1 if all
// are 0), q likewise, clamped to -8..7, stored as q + 8 with element 2i in the low nibble of byte i
// and 2i + 1 in the high one; the scale is rounded to f16 only when stored; a short last block is
// filled up with nibbles of 0.
#pragma once

#include <span>

#include "quant/block.h"
#include "tensor/tensor.h"

namespace apr {

struct BlockAprQ4 {
  PackedF16 scale;
  uint8_t qs[16];
};
static_assert(sizeof(BlockAprQ4) == 18);

// The types that run over the whole tensor and so have no row codec.
constexpr bool IsAprNative(DType dtype) { return dtype == DType::kAprQ4 || dtype == DType::kAprQ8; }

// The view's bytes do not hold its elements: Error(kInvalidFormat).
[[noreturn]] void FailSize(const TensorView& view);

// `bytes` holds exactly out.size() elements (the caller has checked: StorageBytes).
void DecodeAprQ8(Bytes bytes, std::span<float> out);
void DecodeAprQ4(Bytes bytes, std::span<float> out);
// `out` has StorageBytes bytes.
void EncodeAprQ8(std::span<const float> x, std::span<std::byte> out);
void EncodeAprQ4(std::span<const float> x, std::span<std::byte> out);

}  // namespace apr
