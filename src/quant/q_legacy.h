// The first ggml block types: 32 elements, one scale, perhaps an offset.
// Source: ggml/src/ggml-common.h (block_q4_0 ...), ggml/src/ggml-quants.c (dequantize_row_q4_0
// ...).
//
//   type   bytes  bits/weight  decode
//   Q4_0    18    4.5          d * (q - 8),  q in 0..15
//   Q4_1    20    5            d * q + m
//   Q5_0    22    5.5          d * (q - 16), q in 0..31
//   Q5_1    24    6            d * q + m
//   Q8_0    34    8.5          d * q,        q in -128..127
//   Q8_1    36    9            d * q         (an intermediate of int8 products: s = d * sum of q)
//
// Encoding (rounding rules; 1/d is computed once, codes use the f32 d and m, stored ones are
// rounded):
//   Q4_0, Q5_0  d = v / -8 (-16), v the first value of largest magnitude;
//               q = min(trunc(x * (1/d) + 8.5), 15)    (16.5, 31)
//   Q4_1, Q5_1  m = min, d = (max - min) / 15 (31);  q = trunc((x - m) * (1/d) + 0.5)
//   Q8_0, Q8_1  d = max |x| / 127;  q = x * (1/d), halves away from zero
//
// Code order: element i < 16 is the low nibble of qs[i], element i + 16 the high one; bit i of qh
// is the fifth bit of element i. All arithmetic is f32; the product is rounded before the sum.
#pragma once

#include "quant/block.h"

namespace apr {

struct BlockQ4_0 {
  PackedF16 d;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

struct BlockQ4_1 {
  PackedF16 d, m;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

struct BlockQ5_0 {
  PackedF16 d;
  Packed<uint32_t> qh;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

struct BlockQ5_1 {
  PackedF16 d, m;
  Packed<uint32_t> qh;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

struct BlockQ8_0 {
  PackedF16 d;
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

struct BlockQ8_1 {
  PackedF16 d, s;
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8_1) == 36);

void DecodeQ4_0(const std::byte* row, int64_t cols, float* out);
void DecodeQ4_1(const std::byte* row, int64_t cols, float* out);
void DecodeQ5_0(const std::byte* row, int64_t cols, float* out);
void DecodeQ5_1(const std::byte* row, int64_t cols, float* out);
void DecodeQ8_0(const std::byte* row, int64_t cols, float* out);
void DecodeQ8_1(const std::byte* row, int64_t cols, float* out);

void EncodeQ4_0(const float* x, int64_t cols, const float* weights, std::byte* out);
void EncodeQ4_1(const float* x, int64_t cols, const float* weights, std::byte* out);
void EncodeQ5_0(const float* x, int64_t cols, const float* weights, std::byte* out);
void EncodeQ5_1(const float* x, int64_t cols, const float* weights, std::byte* out);
void EncodeQ8_1(const float* x, int64_t cols, const float* weights, std::byte* out);

}  // namespace apr
