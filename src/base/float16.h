// Conversions between f32 and the narrow float formats, bit for bit as IEEE 754 and the OCP 8-bit
// specification say: round to nearest, ties to even. Scalar definitions; vector code must match.
#pragma once

#include <bit>
#include <cstdint>

namespace apr {

// IEEE 754 binary16.
float F16ToF32(uint16_t bits);
uint16_t F32ToF16(float value);

// bfloat16: the upper half of a binary32.
inline float Bf16ToF32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
uint16_t F32ToBf16(float value);

// OCP 8-bit floating point (OFP8 1.0). E4M3 has no infinity (S.1111.111 is NaN, largest 448);
// E5M2 has infinities (largest finite 57344).
float F8E4M3ToF32(uint8_t bits);
float F8E5M2ToF32(uint8_t bits);

// OCP microscaling scale E8M0: 2^(bits - 127), 255 is NaN.
float E8M0ToF32(uint8_t bits);

}  // namespace apr
