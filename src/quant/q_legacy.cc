// See q_legacy.h.
#include "quant/q_legacy.h"

#include <algorithm>
#include <cmath>

#include "quant/rounding.h"

namespace apr {
namespace {

// Code of element i of a block whose nibbles are laid out low half, high half.
inline int Nibble(const uint8_t* qs, int i) { return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4; }
inline int FifthBit(uint32_t qh, int i) { return static_cast<int>((qh >> i) & 1u) << 4; }

// Codes of the symmetric types, 0 .. 2 * half - 1, and their scale. `d`: where it is stored.
void SymmetricCodes(const float* x, int half, PackedF16* d, uint8_t codes[kBlock32]) {
  float extreme = 0.0f;
  for (int i = 0; i < kBlock32; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  const float scale = extreme / static_cast<float>(-half);
  SetScale(scale, d);
  const float inverse = InverseOrZero(scale);
  for (int i = 0; i < kBlock32; ++i) {
    const auto q = static_cast<int>(x[i] * inverse + (static_cast<float>(half) + 0.5f));
    codes[i] = static_cast<uint8_t>(std::min(q, 2 * half - 1));
  }
}

// Codes of the types with an offset, 0 .. levels.
void OffsetCodes(const float* x, int levels, PackedF16* d, PackedF16* m, uint8_t codes[kBlock32]) {
  const auto [low, high] = std::minmax_element(x, x + kBlock32);
  const float min = *low;
  const float scale = (*high - min) / static_cast<float>(levels);
  SetScale(scale, d);
  SetScale(min, m);
  const float inverse = InverseOrZero(scale);
  for (int i = 0; i < kBlock32; ++i) {
    const auto q = static_cast<int>((x[i] - min) * inverse + 0.5f);
    codes[i] = static_cast<uint8_t>(std::min(q, levels));
  }
}

void PackNibbles(const uint8_t codes[kBlock32], uint8_t qs[16]) {
  for (int i = 0; i < 16; ++i) {
    qs[i] = static_cast<uint8_t>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
  }
}

uint32_t FifthBits(const uint8_t codes[kBlock32]) {
  uint32_t bits = 0;
  for (int i = 0; i < kBlock32; ++i) bits |= static_cast<uint32_t>(codes[i] >> 4) << i;
  return bits;
}

// Returns the scale before its rounding to f16.
float SignedBytes(const float* x, PackedF16* d, int8_t qs[kBlock32]) {
  const float scale = LargestMagnitude(x, kBlock32) / 127.0f;
  SetScale(scale, d);
  const float inverse = InverseOrZero(scale);
  for (int i = 0; i < kBlock32; ++i) qs[i] = static_cast<int8_t>(std::round(x[i] * inverse));
  return scale;
}

}  // namespace

void DecodeQ4_0(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ4_0>(row);
  for (int64_t b = 0; b < cols / kBlock32; ++b, out += kBlock32) {
    const float d = block[b].d.get();
    for (int i = 0; i < kBlock32; ++i) out[i] = d * static_cast<float>(Nibble(block[b].qs, i) - 8);
  }
}

void DecodeQ4_1(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ4_1>(row);
  for (int64_t b = 0; b < cols / kBlock32; ++b, out += kBlock32) {
    const float d = block[b].d.get();
    const float m = block[b].m.get();
    for (int i = 0; i < kBlock32; ++i) out[i] = d * static_cast<float>(Nibble(block[b].qs, i)) + m;
  }
}

void DecodeQ5_0(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ5_0>(row);
  for (int64_t b = 0; b < cols / kBlock32; ++b, out += kBlock32) {
    const float d = block[b].d.get();
    const uint32_t qh = block[b].qh.get();
    for (int i = 0; i < kBlock32; ++i) {
      const int q = Nibble(block[b].qs, i) | FifthBit(qh, i);
      out[i] = d * static_cast<float>(q - 16);
    }
  }
}

void DecodeQ5_1(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ5_1>(row);
  for (int64_t b = 0; b < cols / kBlock32; ++b, out += kBlock32) {
    const float d = block[b].d.get();
    const float m = block[b].m.get();
    const uint32_t qh = block[b].qh.get();
    for (int i = 0; i < kBlock32; ++i) {
      const int q = Nibble(block[b].qs, i) | FifthBit(qh, i);
      out[i] = d * static_cast<float>(q) + m;
    }
  }
}

void DecodeQ8_0(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ8_0>(row);
  for (int64_t b = 0; b < cols / kBlock32; ++b, out += kBlock32) {
    const float d = block[b].d.get();
    for (int i = 0; i < kBlock32; ++i) out[i] = d * static_cast<float>(block[b].qs[i]);
  }
}

void DecodeQ8_1(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ8_1>(row);
  for (int64_t b = 0; b < cols / kBlock32; ++b, out += kBlock32) {
    const float d = block[b].d.get();
    for (int i = 0; i < kBlock32; ++i) out[i] = d * static_cast<float>(block[b].qs[i]);
  }
}

void EncodeQ4_0(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  auto* block = AsBlocks<BlockQ4_0>(out);
  for (int64_t b = 0; b < cols / kBlock32; ++b, x += kBlock32) {
    uint8_t codes[kBlock32];
    SymmetricCodes(x, 8, &block[b].d, codes);
    PackNibbles(codes, block[b].qs);
  }
}

void EncodeQ4_1(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  auto* block = AsBlocks<BlockQ4_1>(out);
  for (int64_t b = 0; b < cols / kBlock32; ++b, x += kBlock32) {
    uint8_t codes[kBlock32];
    OffsetCodes(x, 15, &block[b].d, &block[b].m, codes);
    PackNibbles(codes, block[b].qs);
  }
}

void EncodeQ5_0(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  auto* block = AsBlocks<BlockQ5_0>(out);
  for (int64_t b = 0; b < cols / kBlock32; ++b, x += kBlock32) {
    uint8_t codes[kBlock32];
    SymmetricCodes(x, 16, &block[b].d, codes);
    PackNibbles(codes, block[b].qs);
    block[b].qh.set(FifthBits(codes));
  }
}

void EncodeQ5_1(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  auto* block = AsBlocks<BlockQ5_1>(out);
  for (int64_t b = 0; b < cols / kBlock32; ++b, x += kBlock32) {
    uint8_t codes[kBlock32];
    OffsetCodes(x, 31, &block[b].d, &block[b].m, codes);
    PackNibbles(codes, block[b].qs);
    block[b].qh.set(FifthBits(codes));
  }
}

void EncodeQ8_1(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  auto* block = AsBlocks<BlockQ8_1>(out);
  for (int64_t b = 0; b < cols / kBlock32; ++b, x += kBlock32) {
    const float scale = SignedBytes(x, &block[b].d, block[b].qs);
    int sum = 0;
    for (const int8_t q : block[b].qs) sum += q;
    SetScale(scale * static_cast<float>(sum), &block[b].s);
  }
}

}  // namespace apr
