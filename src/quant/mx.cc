// See mx.h.
#include "quant/mx.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "quant/rounding.h"

namespace apr {
namespace {

constexpr int kLargestExponent = 252;  // of a block without infinities

// floor(log2(largest)) - 2 + 127, within a byte. `largest` is finite.
int MxExponent(float largest) { return largest == 0.0f ? 0 : std::max(std::ilogb(largest) - 2 + 127, 0); }

// Where the next larger magnitude is nearer, in units of the half scale.
constexpr float kE2M1Midpoints[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5.0f, 7.0f, 10.0f};

uint8_t NearestLevel(float x, const float midpoints[7]) {
  const float magnitude = std::fabs(x);
  uint8_t q = 0;
  for (int i = 0; i < 7; ++i) q = static_cast<uint8_t>(q + (magnitude > midpoints[i]));
  return x < 0.0f && q != 0 ? static_cast<uint8_t>(q | 8) : q;
}

// The codes of a block under exponent e, and their squared error.
double CodesAt(const float* x, const float* weights, int e, uint8_t codes[kBlock32]) {
  const float scale = MxHalfScale(static_cast<uint8_t>(e));
  float midpoints[7];
  for (int i = 0; i < 7; ++i) midpoints[i] = scale * kE2M1Midpoints[i];
  double error = 0.0;
  for (int i = 0; i < kBlock32; ++i) {
    codes[i] = NearestLevel(x[i], midpoints);
    const double miss = static_cast<double>(x[i]) - static_cast<double>(scale) * kE2M1Levels[codes[i]];
    error += (weights != nullptr ? static_cast<double>(weights[i]) : 1.0) * miss * miss;
  }
  return error;
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

void EncodeMXFP4(const float* x, int64_t cols, const float* weights, std::byte* out) {
  auto* block = AsBlocks<BlockMXFP4>(out);
  for (int64_t b = 0; b < cols / kBlock32; ++b, x += kBlock32) {
    const float* w = weights == nullptr ? nullptr : weights + b * kBlock32;
    const int rule = MxExponent(LargestMagnitude(x, kBlock32));
    uint8_t best[kBlock32];
    int exponent = rule;
    double least = CodesAt(x, w, rule, best);
    for (int e = std::max(rule - 1, 0); e <= std::min(rule + 1, kLargestExponent) && least > 0.0; ++e) {
      uint8_t codes[kBlock32];
      const double error = CodesAt(x, w, e, codes);
      if (error >= least) continue;
      least = error;
      exponent = e;
      std::copy(codes, codes + kBlock32, best);
    }
    block[b].e = static_cast<uint8_t>(exponent);
    for (int i = 0; i < 16; ++i) block[b].qs[i] = static_cast<uint8_t>(best[i] | best[i + 16] << 4);
  }
}

}  // namespace apr
