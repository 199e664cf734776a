// 4-bit floats (E2M1) with small-float block scales.
// Source: OCP Microscaling Formats 1.0 (MXFP4); ggml/src/ggml-common.h (block_mxfp4, block_nvfp4),
// ggml/src/ggml-impl.h (ggml_e8m0_to_fp32_half, ggml_ue4m3_to_fp32).
//
//   type   bytes  bits/weight  decode
//   MXFP4   17    4.25         2^(e - 128) * level[q]      32 per e (E8M0)
//   NVFP4   36    4.5          ue4m3(d) / 2 * level[q]     16 per d (E4M3, non-negative)
//
// level = twice the E2M1 values, so scales carry a factor 1/2: {0, 1, 2, 3, 4, 6, 8, 12} and, with
// bit 3 set, their negatives. Decoding is exact in f32 up to overflow, which begins at e = 253 (8 * 2^125).
#pragma once

#include "quant/block.h"

namespace apr {

inline constexpr int8_t kE2M1Levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

struct BlockMXFP4 {
  uint8_t e;
  uint8_t qs[16];  // as Q4_0: low nibbles elements 0-15, high nibbles 16-31
};
static_assert(sizeof(BlockMXFP4) == 17);

struct BlockNVFP4 {
  uint8_t d[4];    // one per 16 elements
  uint8_t qs[32];  // per 16: 8 bytes, low nibbles elements 0-7, high nibbles 8-15
};
static_assert(sizeof(BlockNVFP4) == 36);

// Half the scale that an MXFP4 exponent byte stands for: 2^(e - 128), subnormal for e < 2.
float MxHalfScale(uint8_t e);
// Half the scale that an NVFP4 scale byte stands for. 0x7F (NaN in E4M3) counts as 0, as in ggml;
// the sign bit is not looked at.
float NvHalfScale(uint8_t d);

void DecodeMXFP4(const std::byte* row, int64_t cols, float* out);
void DecodeNVFP4(const std::byte* row, int64_t cols, float* out);

// Of the exponents around e = floor(log2(largest |x|)) - 2 + 127 (OCP MX 1.0, section 6.3; 0 for a block of
// zeros) the one with the least squared error, weighted where `weights` are given; then the nearest level
// of each element, the smaller one on a tie.
void EncodeMXFP4(const float* x, int64_t cols, const float* weights, std::byte* out);

}  // namespace apr
