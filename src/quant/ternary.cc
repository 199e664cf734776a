// See ternary.h.
#include "quant/ternary.h"

#include <cmath>

#include "quant/rounding.h"

namespace apr {
namespace {

constexpr int kPowersOf3[5] = {1, 3, 9, 27, 81};

// Digit k of a packed byte, minus 1.
inline int Trit(uint8_t packed, int k) {
  const auto shifted = static_cast<uint8_t>(packed * kPowersOf3[k]);
  return ((shifted * 3) >> 8) - 1;
}

// Packs `count` codes (0..2), `stride` apart, as base-3 digits, the first most significant.
uint8_t PackTrits(const uint8_t* codes, int count, int stride) {
  int n = 0;
  for (int k = 0; k < 5; ++k) n = 3 * n + (k < count ? codes[k * stride] : 0);
  return static_cast<uint8_t>((n * 256 + 242) / 243);
}

// Codes of a block; returns the scale.
float TernaryCodes(const float* x, uint8_t codes[kSuperBlock]) {
  const float d = LargestMagnitude(x, kSuperBlock);
  const float inverse = InverseOrZero(d);
  for (int i = 0; i < kSuperBlock; ++i) {
    codes[i] = static_cast<uint8_t>(static_cast<int>(std::round(x[i] * inverse)) + 1);
  }
  return d;
}

}  // namespace

void DecodeTQ1_0(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockTQ1_0>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, out += kSuperBlock) {
    const float d = block[b].d.get();
    for (int k = 0; k < 5; ++k) {
      for (int i = 0; i < 32; ++i)
        out[32 * k + i] = d * static_cast<float>(Trit(block[b].qs[i], k));
      for (int i = 0; i < 16; ++i) {
        out[160 + 16 * k + i] = d * static_cast<float>(Trit(block[b].qs[32 + i], k));
      }
    }
    for (int k = 0; k < 4; ++k) {
      for (int i = 0; i < 4; ++i)
        out[240 + 4 * k + i] = d * static_cast<float>(Trit(block[b].qh[i], k));
    }
  }
}

void DecodeTQ2_0(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockTQ2_0>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, out += kSuperBlock) {
    const float d = block[b].d.get();
    for (int n = 0; n < kSuperBlock; ++n) {
      const int q = (block[b].qs[32 * (n / 128) + n % 32] >> (2 * (n / 32 % 4))) & 3;
      out[n] = d * static_cast<float>(q - 1);
    }
  }
}

void EncodeTQ1_0(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  auto* block = AsBlocks<BlockTQ1_0>(out);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, x += kSuperBlock) {
    uint8_t codes[kSuperBlock];
    SetScale(TernaryCodes(x, codes), &block[b].d);
    for (int i = 0; i < 32; ++i) block[b].qs[i] = PackTrits(codes + i, 5, 32);
    for (int i = 0; i < 16; ++i) block[b].qs[32 + i] = PackTrits(codes + 160 + i, 5, 16);
    for (int i = 0; i < 4; ++i) block[b].qh[i] = PackTrits(codes + 240 + i, 4, 4);
  }
}

void EncodeTQ2_0(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  auto* block = AsBlocks<BlockTQ2_0>(out);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, x += kSuperBlock) {
    uint8_t codes[kSuperBlock];
    SetScale(TernaryCodes(x, codes), &block[b].d);
    for (int i = 0; i < 64; ++i) {
      const uint8_t* first = codes + 128 * (i / 32) + i % 32;
      block[b].qs[i] =
          static_cast<uint8_t>(first[0] | first[32] << 2 | first[64] << 4 | first[96] << 6);
    }
  }
}

}  // namespace apr
