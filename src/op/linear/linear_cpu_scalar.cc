// Linear kernels in portable C++: a panel is one row. The definition that the vector tables must match
// bit for bit in the int8 products.
#include <cmath>

#include "op/linear/linear_kernels.h"
#include "op/linear/linear_quantize.h"
#include "quant/q_k.h"
#include "quant/q_legacy.h"

namespace apr {
namespace {

// 32 unpacked columns. Units of 16 use both scales, the others scale[0] and, with a minimum, `minimum`.
struct Unit32 {
  uint8_t codes[32];
  float scale[2];
  float minimum;
};

void NibbleCodes(const uint8_t* qs, uint8_t codes[32]) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = qs[i] & 15;
    codes[16 + i] = qs[i] >> 4;
  }
}
void AddFifthBits(uint32_t bits, uint8_t codes[32]) {
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(codes[i] | (((bits >> i) & 1) << 4));
}

void Unpack(const BlockQ4_0& block, Unit32* unit) {
  NibbleCodes(block.qs, unit->codes);
  unit->scale[0] = block.d.get();
}
void Unpack(const BlockQ4_1& block, Unit32* unit) {
  NibbleCodes(block.qs, unit->codes);
  unit->scale[0] = block.d.get();
  unit->minimum = block.m.get();
}
void Unpack(const BlockQ5_0& block, Unit32* unit) {
  NibbleCodes(block.qs, unit->codes);
  AddFifthBits(block.qh.get(), unit->codes);
  unit->scale[0] = block.d.get();
}
void Unpack(const BlockQ5_1& block, Unit32* unit) {
  NibbleCodes(block.qs, unit->codes);
  AddFifthBits(block.qh.get(), unit->codes);
  unit->scale[0] = block.d.get();
  unit->minimum = block.m.get();
}
void Unpack(const BlockQ8_0& block, Unit32* unit) {
  for (int i = 0; i < 32; ++i) unit->codes[i] = static_cast<uint8_t>(block.qs[i] + 128);
  unit->scale[0] = block.d.get();
}

template <typename Block>
void UnpackMinimumSuperBlock(const Block& block, Unit32* unit, const uint8_t* fifth_bits) {
  uint8_t scales[8];
  uint8_t mins[8];
  UnpackScalesMins(block.scales, scales, mins);
  for (int j = 0; j < 8; ++j) {
    unit[j].scale[0] = block.d.get() * static_cast<float>(scales[j]);
    unit[j].minimum = -(block.dmin.get() * static_cast<float>(mins[j]));
    for (int i = 0; i < 32; ++i) {
      int code = (block.qs[32 * (j / 2) + i] >> (4 * (j % 2))) & 15;
      if (fifth_bits != nullptr) code |= ((fifth_bits[i] >> j) & 1) << 4;
      unit[j].codes[i] = static_cast<uint8_t>(code);
    }
  }
}
void Unpack(const BlockQ4_K& block, Unit32* unit) { UnpackMinimumSuperBlock(block, unit, nullptr); }
void Unpack(const BlockQ5_K& block, Unit32* unit) { UnpackMinimumSuperBlock(block, unit, block.qh); }
void Unpack(const BlockQ6_K& block, Unit32* unit) {
  for (int j = 0; j < 8; ++j) {
    const int h = j / 4;
    const int s = j % 4;
    for (int a = 0; a < 2; ++a) {
      unit[j].scale[a] = block.d.get() * static_cast<float>(block.scales[2 * j + a]);
    }
    for (int i = 0; i < 32; ++i) {
      const int low = (block.ql[64 * h + 32 * (s % 2) + i] >> (4 * (s / 2))) & 15;
      const int high = (block.qh[32 * h + i] >> (2 * s)) & 3;
      unit[j].codes[i] = static_cast<uint8_t>(low | (high << 4));
    }
  }
}

int32_t DotCodes(const uint8_t* w, const int8_t* x, int quads, int tokens) {
  int32_t sum = 0;
  for (int i = 0; i < quads; ++i) {
    for (int j = 0; j < 4; ++j) sum += w[4 * i + j] * x[4 * i * tokens + j];
  }
  return sum;
}

// Adds the units of columns [k, k + 32 count) to the total of token t.
template <CodeKind kKind>
float DotUnits(const Unit32* unit, int64_t k, int64_t count, const QuantTile& tile, int tokens, int t,
               float total) {
  if constexpr (kKind == CodeKind::kSixteens) {
    for (int64_t super = 0; super < count; super += 8) {
      for (int u = 0; u < 16; ++u) {
        // Storage order: halves of 128 columns, in them even units of 16, then odd ones.
        const int64_t block = super + 4 * (u / 8) + u % 4;
        const int a = u / 4 % 2;
        const int64_t at = k + 32 * block + 16 * a;
        const int32_t dot = tile.correction[at / 16 * tokens + t] +
                            DotCodes(unit[block].codes + 16 * a, tile.codes + at * tokens + 4 * t, 4, tokens);
        total = std::fma(static_cast<float>(dot), unit[block].scale[a] * tile.scale[at / 32 * tokens + t], total);
      }
    }
    return total;
  }
  for (int64_t b = 0; b < count; ++b) {
    const int64_t at = (k / 32 + b) * tokens + t;
    int32_t dot = DotCodes(unit[b].codes, tile.codes + (k + 32 * b) * tokens + 4 * t, 8, tokens);
    if constexpr (kKind == CodeKind::kOffset) dot += tile.correction[at];
    total = std::fma(static_cast<float>(dot), unit[b].scale[0] * tile.scale[at], total);
    if constexpr (kKind == CodeKind::kMinimum) total = std::fma(unit[b].minimum, tile.weighted_sum[at], total);
  }
  return total;
}

template <typename Block, int kUnits>
void UnpackPanel(const std::byte* row, int64_t, int64_t count, std::byte* panel) {
  auto* unit = reinterpret_cast<Unit32*>(panel);
  for (int64_t b = 0; b < count; ++b) Unpack(AsBlocks<Block>(row)[b], unit + kUnits * b);
}

template <CodeKind kKind>
void DotPanel(const std::byte* panel, int64_t padded_cols, const QuantTile& tile, int tokens, float* out) {
  const auto* unit = reinterpret_cast<const Unit32*>(panel);
  for (int t = 0; t < tokens; ++t) out[t] = DotUnits<kKind>(unit, 0, padded_cols / 32, tile, tokens, t, 0.0f);
}

template <typename Block, int kUnits, CodeKind kKind>
void DotOne(const std::byte* row, int64_t, int64_t count, const QuantTile& tile, float* out) {
  float total = 0;
  for (int64_t b = 0; b < count; ++b) {
    Unit32 unit[kUnits];
    Unpack(AsBlocks<Block>(row)[b], unit);
    total = DotUnits<kKind>(unit, 32 * kUnits * b, kUnits, tile, 1, 0, total);
  }
  *out = total;
}

template <typename Block, int kUnits, CodeKind kKind, int kOffset>
constexpr FastKernel MakeFastKernel() {
  return {kKind, kOffset, sizeof(Unit32), UnpackPanel<Block, kUnits>, DotPanel<kKind>,
          DotOne<Block, kUnits, kKind>};
}

const FastKernel* FindFast(DType dtype) {
  static constexpr FastKernel kQ4_0 = MakeFastKernel<BlockQ4_0, 1, CodeKind::kOffset, 8>();
  static constexpr FastKernel kQ4_1 = MakeFastKernel<BlockQ4_1, 1, CodeKind::kMinimum, 0>();
  static constexpr FastKernel kQ5_0 = MakeFastKernel<BlockQ5_0, 1, CodeKind::kOffset, 16>();
  static constexpr FastKernel kQ5_1 = MakeFastKernel<BlockQ5_1, 1, CodeKind::kMinimum, 0>();
  static constexpr FastKernel kQ8_0 = MakeFastKernel<BlockQ8_0, 1, CodeKind::kOffset, 128>();
  static constexpr FastKernel kQ4_K = MakeFastKernel<BlockQ4_K, 8, CodeKind::kMinimum, 0>();
  static constexpr FastKernel kQ5_K = MakeFastKernel<BlockQ5_K, 8, CodeKind::kMinimum, 0>();
  static constexpr FastKernel kQ6_K = MakeFastKernel<BlockQ6_K, 8, CodeKind::kSixteens, 32>();
  switch (dtype) {
    case DType::kQ4_0: return &kQ4_0;
    case DType::kQ4_1: return &kQ4_1;
    case DType::kQ5_0: return &kQ5_0;
    case DType::kQ5_1: return &kQ5_1;
    case DType::kQ8_0: return &kQ8_0;
    case DType::kQ4_K: return &kQ4_K;
    case DType::kQ5_K: return &kQ5_K;
    case DType::kQ6_K: return &kQ6_K;
    default: return nullptr;
  }
}

void Quantize(const QuantizeArgs& a, const QuantTile& tile) {
  for (int64_t k = 0; k < a.padded_cols; k += 32) {
    for (int t = 0; t < a.tokens; ++t) {
      float x[32];
      int32_t largest = 0;
      for (int64_t i = 0; i < 32; ++i) {
        x[i] = k + i < a.cols ? a.x[t * a.stride + k + i] : 0.0f;
        const int32_t magnitude = __builtin_bit_cast(int32_t, x[i]) & 0x7FFFFFFF;
        if (magnitude > largest) largest = magnitude;
      }
      float scale;
      float inverse;
      ActivationScale(largest, &scale, &inverse);
      int32_t sums[2] = {};
      for (int i = 0; i < 32; ++i) {
        const int code = inverse == 0 ? 0 : static_cast<int>(std::nearbyint(x[i] * inverse));
        tile.codes[(k + i / 4 * 4) * a.tokens + 4 * t + i % 4] = static_cast<int8_t>(code);
        sums[i / 16] += code;
      }
      StoreBlockSums(a, tile, k, t, scale, sums);
    }
  }
}

// Rows are decoded by DecodeRow.
UnpackF32 FindUnpackF32(DType) { return nullptr; }

void DotFloats(const float* row, int64_t cols, const float* tile, int tokens, float* out) {
  for (int t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < cols; k += kExactBlock) {
      float sum = 0;
      for (int64_t i = k; i < cols && i < k + kExactBlock; ++i) sum += row[i] * tile[i * tokens + t];
      out[t] += sum;
    }
  }
}

void DotRows(const float* panel, int64_t stride, int64_t cols, const float* x, int64_t x_stride, int tokens,
             float* out) {
  for (int t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < cols; k += kExactBlock) {
      float sum = 0;
      for (int64_t i = k; i < cols && i < k + kExactBlock; ++i) sum += panel[i * stride] * x[t * x_stride + i];
      out[t] += sum;
    }
  }
}

}  // namespace

const LinearKernels& LinearKernelsScalar() {
  static constexpr LinearKernels kTable = {Isa::kScalar, 1, FindUnpackF32, DotFloats, DotRows, FindFast, Quantize};
  return kTable;
}

}  // namespace apr
