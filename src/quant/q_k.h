// The K types: super-blocks of 256 elements in sub-blocks of 16 or 32, whose scales (and minima)
// are themselves quantised against the f16 scale(s) of the super-block. Source:
// ggml/src/ggml-common.h (block_q2_K ...), ggml/src/ggml-quants.c (dequantize_row_q2_K ...).
//
//   type  bytes  bits/weight  sub-blocks  decode
//   Q2_K   84    2.625        16 x 16     (d * sc) * q - dmin * mn      sc, mn 4 bits, q 2 bits
//   Q3_K  110    3.4375       16 x 16     (d * (sc - 32)) * q           sc 6 bits, q -4..3
//   Q4_K  144    4.5           8 x 32     (d * sc) * q - dmin * mn      sc, mn 6 bits, q 4 bits
//   Q5_K  176    5.5           8 x 32     (d * sc) * q - dmin * mn      sc, mn 6 bits, q 5 bits
//   Q6_K  210    6.5625       16 x 16     (d * sc) * q                  sc int8, q -32..31
//   Q8_K  292    9.125        (one f32 scale) d * q; an intermediate of int8 products, with sums of
//   16
//
// All arithmetic is f32. Every product is exact (at most 11 + 6 + 6 bits); only the subtraction
// rounds.
#pragma once

#include "quant/block.h"

namespace apr {

// Element n of a super-block, with c = n / 128, s = (n / 32) % 4, l = n % 32:
// code = bits 2s, 2s+1 of qs[32 c + l]; sub-block n / 16: low nibble scale, high nibble minimum.
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  PackedF16 d, dmin;
};
static_assert(sizeof(BlockQ2_K) == 84);

// Low two bits of the code as in Q2_K; bit n / 32 of hmask[n % 32] set means code, clear code - 4.
// Scale j of 16: low 4 bits in the nibbles of scales[j % 8], high 2 bits in scales[8 + j % 4].
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  PackedF16 d;
};
static_assert(sizeof(BlockQ3_K) == 110);

// Chunks of 64: 32 low nibbles, then 32 high nibbles of the same bytes. Scales: UnpackScalesMins.
struct BlockQ4_K {
  PackedF16 d, dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

// As Q4_K; bit j of qh[l] is the fifth bit of element 32 j + l.
struct BlockQ5_K {
  PackedF16 d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

// Halves of 128 elements: ql nibbles (64 low, then 64 high), qh two bits per element.
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  PackedF16 d;
};
static_assert(sizeof(BlockQ6_K) == 210);

struct BlockQ8_K {
  Packed<float> d;
  int8_t qs[256];
  Packed<int16_t> bsums[16];
};
static_assert(sizeof(BlockQ8_K) == 292);

// The 12 bytes of Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima. Bytes 0-3 and 4-7 hold
// scale and minimum 0-3 in their low 6 bits; bytes 8-11 hold the low 4 bits of 4-7 (scale low
// nibble, minimum high nibble), whose upper 2 bits are the upper bits of bytes 0-3 and 4-7.
void UnpackScalesMins(const uint8_t packed[12], uint8_t scales[8], uint8_t mins[8]);
void PackScalesMins(const uint8_t scales[8], const uint8_t mins[8], uint8_t packed[12]);
// The 12 bytes of Q3_K: sixteen 6-bit scales, here with the offset of 32 already taken off
// (-32..31).
void UnpackScalesQ3(const uint8_t packed[12], int8_t scales[16]);
void PackScalesQ3(const int8_t scales[16], uint8_t packed[12]);

void DecodeQ2_K(const std::byte* row, int64_t cols, float* out);
void DecodeQ3_K(const std::byte* row, int64_t cols, float* out);
void DecodeQ4_K(const std::byte* row, int64_t cols, float* out);
void DecodeQ5_K(const std::byte* row, int64_t cols, float* out);
void DecodeQ6_K(const std::byte* row, int64_t cols, float* out);
void DecodeQ8_K(const std::byte* row, int64_t cols, float* out);

}  // namespace apr
