// See mx.h.
#include "quant/mx.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "quant/rounding.h"

namespace apr {
namespace {

// floor(log2(largest)) - 2 + 127, within a byte. `largest` is finite.
uint8_t MxExponent(float largest) {
  if (largest == 0.0f) return 0;
  return static_cast<uint8_t>(std::max(std::ilogb(largest) - 2 + 127, 0));
}

uint8_t NearestLevel(float x, float half_scale) {
  uint8_t best = 0;
  float best_error = std::fabs(x);
  for (uint8_t q = 1; q < 16; ++q) {
    const float error = std::fabs(half_scale * static_cast<float>(kE2M1Levels[q]) - x);
    if (error < best_error) {
      best_error = error;
      best = q;
    }
  }
  return best;
}

}  // namespace

float MxHalfScale(uint8_t e) {
  const uint32_t bits = e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23;
  return std::bit_cast<float>(bits);
}

float NvHalfScale(uint8_t d) {
  const auto magnitude = static_cast<uint8_t>(d & 0x7F);
  return magnitude == 0x7F ? 0.0f : 0.5f * F8E4M3ToF32(magnitude);
}

void DecodeMXFP4(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockMXFP4>(row);
  for (int64_t b = 0; b < cols / kBlock32; ++b, out += kBlock32) {
    const float scale = MxHalfScale(block[b].e);
    for (int i = 0; i < 16; ++i) {
      out[i] = scale * static_cast<float>(kE2M1Levels[block[b].qs[i] & 15]);
      out[i + 16] = scale * static_cast<float>(kE2M1Levels[block[b].qs[i] >> 4]);
    }
  }
}

void DecodeNVFP4(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockNVFP4>(row);
  for (int64_t b = 0; b < cols / 64; ++b) {
    for (int j = 0; j < 4; ++j, out += 16) {
      const float scale = NvHalfScale(block[b].d[j]);
      const uint8_t* qs = block[b].qs + 8 * j;
      for (int i = 0; i < 8; ++i) {
        out[i] = scale * static_cast<float>(kE2M1Levels[qs[i] & 15]);
        out[i + 8] = scale * static_cast<float>(kE2M1Levels[qs[i] >> 4]);
      }
    }
  }
}

void EncodeMXFP4(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  auto* block = AsBlocks<BlockMXFP4>(out);
  for (int64_t b = 0; b < cols / kBlock32; ++b, x += kBlock32) {
    block[b].e = MxExponent(LargestMagnitude(x, kBlock32));
    const float scale = MxHalfScale(block[b].e);
    for (int i = 0; i < 16; ++i) {
      block[b].qs[i] =
          static_cast<uint8_t>(NearestLevel(x[i], scale) | NearestLevel(x[i + 16], scale) << 4);
    }
  }
}

}  // namespace apr
