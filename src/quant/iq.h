// The IQ types: groups of 8 (or 4) elements are one entry of a codebook with separate signs; the
// IQ4 types look single codes up in a table of 16 uneven levels.
// Source: ggml/src/ggml-common.h (block_iq2_xxs ...), ggml/src/ggml-quants.c
// (dequantize_row_iq2_xxs
// ...), gguf/quants.py.
//
//   type     bytes  bits/weight  decode (sub-block scale s, sign g = +-1)
//   IQ1_S     50    1.5625       d * (2 s + 1) * (grid + delta)   32 per s (3 bits), delta = +-1/8
//   IQ1_M     56    1.75         d * (2 s + 1) * (grid + delta)   16 per s (3 bits), delta per 8
//   IQ2_XXS   66    2.0625       d * (s + 1/2) / 4 * grid * g     32 per s (4 bits)
//   IQ2_XS    74    2.3125       d * (s + 1/2) / 4 * grid * g     16 per s (4 bits)
//   IQ2_S     82    2.5625       d * (s + 1/2) / 4 * grid * g     16 per s (4 bits)
//   IQ3_XXS   98    3.0625       d * (s + 1/2) / 2 * grid * g     32 per s (4 bits)
//   IQ3_S    110    3.4375       d * (2 s + 1) * grid * g         32 per s (4 bits)
//   IQ4_NL    18    4.5          d * level[q]                     blocks of 32
//   IQ4_XS   136    4.25         d * (s - 32) * level[q]          32 per s (6 bits)
//
// All of it is exact in f32. Signs of 7 bits (XXS, IQ2_XS): the eighth makes the number of minus
// signs even.
#pragma once

#include "quant/block.h"

namespace apr {

struct BlockIQ1_S {
  PackedF16 d;
  uint8_t qs[32];  // index of 8 elements, low 8 bits
  Packed<uint16_t>
      qh[8];  // per 32: four times 3 high index bits, 3 bits scale, 1 bit sign of delta
};
static_assert(sizeof(BlockIQ1_S) == 50);

struct BlockIQ1_M {
  uint8_t qs[32];              // index of 8 elements, low 8 bits
  uint8_t qh[16];              // per 8: 3 high index bits, 1 bit sign of delta
  Packed<uint16_t> scales[4];  // four times 3 bits scale of 16 elements; top nibbles: the f16 d
};
static_assert(sizeof(BlockIQ1_M) == 56);

struct BlockIQ2_XXS {
  PackedF16 d;
  // Per 32: four index bytes; then four times 7 sign bits and 4 bits of scale.
  struct {
    uint8_t index[4];
    Packed<uint32_t> signs_scale;
  } group[8];
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

struct BlockIQ2_XS {
  PackedF16 d;
  Packed<uint16_t> qs[32];  // per 8: 9 bits index, 7 bits signs
  uint8_t scales[8];        // per 32: two scales of 16
};
static_assert(sizeof(BlockIQ2_XS) == 74);

struct BlockIQ2_S {
  PackedF16 d;
  uint8_t qs[32];     // per 8: index, low 8 bits
  uint8_t signs[32];  // per 8
  uint8_t qh[8];      // per 32: four times 2 high index bits
  uint8_t scales[8];  // per 32: two scales of 16
};
static_assert(sizeof(BlockIQ2_S) == 82);

struct BlockIQ3_XXS {
  PackedF16 d;
  uint8_t qs[64];                   // per 4: index
  Packed<uint32_t> signs_scale[8];  // per 32: four times 7 sign bits and 4 bits of scale
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

struct BlockIQ3_S {
  PackedF16 d;
  uint8_t qs[64];     // per 4: index, low 8 bits
  uint8_t qh[8];      // per 32: the ninth bit of 8 indices
  uint8_t signs[32];  // per 8
  uint8_t scales[4];  // per 64: two scales of 32
};
static_assert(sizeof(BlockIQ3_S) == 110);

struct BlockIQ4_NL {
  PackedF16 d;
  uint8_t qs[16];  // as Q4_0
};
static_assert(sizeof(BlockIQ4_NL) == 18);

struct BlockIQ4_XS {
  PackedF16 d;
  Packed<uint16_t> scales_h;  // eight times 2 high bits
  uint8_t scales_l[4];        // eight nibbles
  uint8_t qs[128];            // per 32: 16 bytes, as Q4_0
};
static_assert(sizeof(BlockIQ4_XS) == 136);

// The levels of IQ4_NL and IQ4_XS, ascending.
inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

void DecodeIQ1_S(const std::byte* row, int64_t cols, float* out);
void DecodeIQ1_M(const std::byte* row, int64_t cols, float* out);
void DecodeIQ2_XXS(const std::byte* row, int64_t cols, float* out);
void DecodeIQ2_XS(const std::byte* row, int64_t cols, float* out);
void DecodeIQ2_S(const std::byte* row, int64_t cols, float* out);
void DecodeIQ3_XXS(const std::byte* row, int64_t cols, float* out);
void DecodeIQ3_S(const std::byte* row, int64_t cols, float* out);
void DecodeIQ4_NL(const std::byte* row, int64_t cols, float* out);
void DecodeIQ4_XS(const std::byte* row, int64_t cols, float* out);

}  // namespace apr
