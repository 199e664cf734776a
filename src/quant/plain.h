// Plain elements (one value each, no blocks): F64 F32 F16 BF16 F8_E4M3 F8_E5M2, integers, BOOL.
//
//   type      bits  decode to f32
//   F64       64    rounded to nearest even
//   F32       32    as it is
//   F16       16    exact (IEEE 754 binary16)
//   BF16      16    exact (upper half of a binary32)
//   F8_E4M3    8    exact (OCP OFP8: no infinity, NaN at S.1111.111, largest 448)
//   F8_E5M2    8    exact (OCP OFP8)
//   I*, U*  8-64    rounded to nearest even (exact up to 2^24)
//   BOOL       8    0 or 1 (any other byte than 0 is 1)
#pragma once

#include "quant/block.h"

namespace apr {

void DecodeF64(const std::byte* row, int64_t cols, float* out);
void DecodeF32(const std::byte* row, int64_t cols, float* out);
void DecodeF16(const std::byte* row, int64_t cols, float* out);
void DecodeBF16(const std::byte* row, int64_t cols, float* out);
void DecodeF8E4M3(const std::byte* row, int64_t cols, float* out);
void DecodeF8E5M2(const std::byte* row, int64_t cols, float* out);
void DecodeI64(const std::byte* row, int64_t cols, float* out);
void DecodeI32(const std::byte* row, int64_t cols, float* out);
void DecodeI16(const std::byte* row, int64_t cols, float* out);
void DecodeI8(const std::byte* row, int64_t cols, float* out);
void DecodeU64(const std::byte* row, int64_t cols, float* out);
void DecodeU32(const std::byte* row, int64_t cols, float* out);
void DecodeU16(const std::byte* row, int64_t cols, float* out);
void DecodeU8(const std::byte* row, int64_t cols, float* out);
void DecodeBool(const std::byte* row, int64_t cols, float* out);

// Nearest even; NaN stays NaN; F16 overflows to infinity (IEEE 754).
void EncodeF64(const float* x, int64_t cols, const float* weights, std::byte* out);
void EncodeF32(const float* x, int64_t cols, const float* weights, std::byte* out);
void EncodeBF16(const float* x, int64_t cols, const float* weights, std::byte* out);

}  // namespace apr
