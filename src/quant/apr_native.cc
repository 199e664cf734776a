// See apr_native.h.
#include "quant/apr_native.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "quant/rounding.h"

namespace apr {
namespace {

// largest / levels; 1 for zeros, and where the quotient of a subnormal is 0.
float ScaleFor(float largest, float levels) {
  const float scale = largest / levels;
  return scale == 0.0f ? 1.0f : scale;
}

int RoundedRatio(float x, float scale, int low, int high) {
  return static_cast<int>(
      std::clamp(std::round(x / scale), static_cast<float>(low), static_cast<float>(high)));
}

}  // namespace

void DecodeAprQ8(Bytes bytes, std::span<float> out) {
  if (out.empty()) return;
  APR_CHECK(bytes.size() == out.size() + 4);
  const float scale = LoadLe<float>(bytes.data());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(static_cast<int8_t>(bytes[4 + i])) * scale;
  }
}

void DecodeAprQ4(Bytes bytes, std::span<float> out) {
  APR_CHECK(bytes.size() == (out.size() + 31) / 32 * sizeof(BlockAprQ4));
  const auto* block = AsBlocks<BlockAprQ4>(bytes.data());
  for (size_t i = 0; i < out.size(); ++i) {
    const BlockAprQ4& b = block[i / 32];
    const int nibble = (b.qs[i % 32 / 2] >> (4 * (i % 2))) & 15;
    out[i] = static_cast<float>(nibble - 8) * b.scale.get();
  }
}

void EncodeAprQ8(std::span<const float> x, std::span<std::byte> out) {
  if (x.empty()) return;
  APR_CHECK(out.size() == x.size() + 4);
  float largest = 0.0f;
  for (const float v : x) largest = std::max(largest, std::fabs(v));
  const float scale = ScaleFor(largest, 127.0f);
  StoreLe(out.data(), scale);
  for (size_t i = 0; i < x.size(); ++i) {
    out[4 + i] = static_cast<std::byte>(RoundedRatio(x[i], scale, -127, 127));
  }
}

void EncodeAprQ4(std::span<const float> x, std::span<std::byte> out) {
  APR_CHECK(out.size() == (x.size() + 31) / 32 * sizeof(BlockAprQ4));
  auto* block = AsBlocks<BlockAprQ4>(out.data());
  for (size_t first = 0; first < x.size(); first += 32, ++block) {
    const auto n = static_cast<int>(std::min<size_t>(32, x.size() - first));
    const float largest = LargestMagnitude(x.data() + first, n);
    const float scale = ScaleFor(largest, 7.0f);
    SetScale(scale, &block->scale);
    std::memset(block->qs, 0, sizeof block->qs);
    for (int i = 0; i < n; ++i) {
      const int q = RoundedRatio(x[first + static_cast<size_t>(i)], scale, -8, 7) + 8;
      block->qs[i / 2] = static_cast<uint8_t>(block->qs[i / 2] | q << (4 * (i % 2)));
    }
  }
}

}  // namespace apr
