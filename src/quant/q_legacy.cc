// See q_legacy.h.
#include "quant/q_legacy.h"

namespace apr {
namespace {

// Code of element i of a block whose nibbles are laid out low half, high half.
inline int Nibble(const uint8_t* qs, int i) { return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4; }
inline int FifthBit(uint32_t qh, int i) { return static_cast<int>((qh >> i) & 1u) << 4; }

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

}  // namespace apr
