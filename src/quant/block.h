// What every quantised block is made of: unaligned little-endian fields and the shapes of the row
// functions. Blocks have alignment 1, so a pointer into a mapped file can be cast to them.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/float16.h"

namespace apr {

// A little-endian value at any address.
template <typename T>
struct Packed {
  uint8_t bytes[sizeof(T)];
  T get() const { return LoadLe<T>(bytes); }
  void set(T value) { StoreLe(bytes, value); }
};

// An f16 at any address, read as f32.
struct PackedF16 {
  uint8_t bytes[2];
  uint16_t bits() const { return LoadLe<uint16_t>(bytes); }
  void set_bits(uint16_t bits) { StoreLe(bytes, bits); }
  float get() const { return F16ToF32(bits()); }
};

// Elements per block of the legacy types and of the K and IQ types ("super-block").
inline constexpr int kBlock32 = 32;
inline constexpr int kSuperBlock = 256;

template <typename Block>
const Block* AsBlocks(const std::byte* row) {
  static_assert(alignof(Block) == 1);
  return reinterpret_cast<const Block*>(row);
}
template <typename Block>
Block* AsBlocks(std::byte* row) {
  static_assert(alignof(Block) == 1);
  return reinterpret_cast<Block*>(row);
}

// Decodes `cols` elements (whole blocks) of one row to f32.
using RowDecoder = void (*)(const std::byte* row, int64_t cols, float* out);

// Encodes one row of `cols` finite elements (whole blocks). `weights`: [cols] positive weights of the
// squared error, or nullptr for equal ones. Types whose encoder is a rounding rule ignore them, as there
// is nothing to choose.
using RowEncoder = void (*)(const float* x, int64_t cols, const float* weights, std::byte* out);

}  // namespace apr
