// Ternary types: 256 elements out of {-d, 0, d}.
// Source: ggml/src/ggml-common.h (block_tq1_0, block_tq2_0), ggml/src/ggml-quants.c.
//
//   type   bytes  bits/weight  decode
//   TQ1_0   54    1.6875       d * (q - 1), q in 0..2, five base-3 digits per byte
//   TQ2_0   66    2.0625       d * (q - 1), q in 0..3, two bits each
//
// Encoding: d = largest |x|, code = round(x / d) + 1 with halves away from zero, computed as x *
// (1/d).
#pragma once

#include "quant/block.h"

namespace apr {

// A byte holds v = ceil(n * 256 / 243) of a number n of five base-3 digits, most significant first:
// digit k is the integer part of 3 * frac(v * 3^k / 256). qs[0..31]: element 32 k + i; qs[32..47]:
// element 160 + 16 k + i; qh (four digits, the fifth is 0): element 240 + 4 k + i.
struct BlockTQ1_0 {
  uint8_t qs[48];
  uint8_t qh[4];
  PackedF16 d;
};
static_assert(sizeof(BlockTQ1_0) == 54);

// Element 128 h + 32 k + i: bits 2k, 2k+1 of qs[32 h + i].
struct BlockTQ2_0 {
  uint8_t qs[64];
  PackedF16 d;
};
static_assert(sizeof(BlockTQ2_0) == 66);

void DecodeTQ1_0(const std::byte* row, int64_t cols, float* out);
void DecodeTQ2_0(const std::byte* row, int64_t cols, float* out);
void EncodeTQ1_0(const float* x, int64_t cols, const float* weights, std::byte* out);
void EncodeTQ2_0(const float* x, int64_t cols, const float* weights, std::byte* out);

}  // namespace apr
