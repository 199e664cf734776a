// See block_step.h.
#include "quant/block_step.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "quant/apr_native.h"
#include "quant/iq.h"
#include "quant/mx.h"
#include "quant/q_k.h"
#include "quant/q_legacy.h"
#include "quant/quant.h"
#include "quant/ternary.h"

namespace apr {
namespace {

template <typename Block>
float ScaleOf(const std::byte* block) {
  return AsBlocks<Block>(block)->d.get();
}

// Of a type with a table of levels: the larger gap beside the level that `value` is.
float GapAt(const int8_t (&levels)[16], float scale, float value) {
  if (scale == 0) return 0;
  float below = 0, above = 0;
  const float at = value / scale;
  for (const int8_t level : levels) {
    const float off = static_cast<float>(level) - at;
    if (off > 0.25f) above = above == 0 ? off : std::min(above, off);
    if (off < -0.25f) below = below == 0 ? -off : std::min(below, -off);
  }
  return std::max(below, above) * std::fabs(scale);
}

float ScaleOfQ4Q5(float d, const uint8_t* packed, int i) {
  uint8_t scales[8], mins[8];
  UnpackScalesMins(packed, scales, mins);
  return d * static_cast<float>(scales[i / 32]);
}

float ScaleOfQ3(const BlockQ3_K& block, int i) {
  int8_t scales[16];
  UnpackScalesQ3(block.scales, scales);
  return block.d.get() * static_cast<float>(scales[i / 16]);
}

float ScaleOfIq4Xs(const BlockIQ4_XS& b, int i) {
  const int g = i / 32, low = (b.scales_l[g / 2] >> 4 * (g % 2)) & 15, high = (b.scales_h.get() >> 2 * g) & 3;
  return b.d.get() * static_cast<float>((low | high << 4) - 32);
}

// A step whose rounding errs as the type does on what the block holds.
float TypicalStep(DType dtype, std::span<const float> values) {
  double square = 0;
  for (const float v : values) square += static_cast<double>(v) * v;
  return static_cast<float>(TypicalRelativeError(dtype) * std::sqrt(12 * square / static_cast<double>(values.size())));
}

float StepIn(DType dtype, const std::byte* block, int i) {
  switch (dtype) {
    case DType::kQ4_0: return ScaleOf<BlockQ4_0>(block);
    case DType::kQ4_1: return ScaleOf<BlockQ4_1>(block);
    case DType::kQ5_0: return ScaleOf<BlockQ5_0>(block);
    case DType::kQ5_1: return ScaleOf<BlockQ5_1>(block);
    case DType::kQ8_0: return ScaleOf<BlockQ8_0>(block);
    case DType::kAprQ4: return AsBlocks<BlockAprQ4>(block)->scale.get();
    case DType::kQ2_K: return ScaleOf<BlockQ2_K>(block) * static_cast<float>(AsBlocks<BlockQ2_K>(block)->scales[i / 16] & 15);
    case DType::kQ3_K: return ScaleOfQ3(*AsBlocks<BlockQ3_K>(block), i);
    case DType::kQ4_K: return ScaleOfQ4Q5(ScaleOf<BlockQ4_K>(block), AsBlocks<BlockQ4_K>(block)->scales, i);
    case DType::kQ5_K: return ScaleOfQ4Q5(ScaleOf<BlockQ5_K>(block), AsBlocks<BlockQ5_K>(block)->scales, i);
    case DType::kQ6_K: return ScaleOf<BlockQ6_K>(block) * static_cast<float>(AsBlocks<BlockQ6_K>(block)->scales[i / 16]);
    case DType::kTQ1_0: return ScaleOf<BlockTQ1_0>(block);
    case DType::kTQ2_0: return ScaleOf<BlockTQ2_0>(block);
    default: break;
  }
  const int64_t elements = InfoOf(dtype).block_elems;
  std::vector<float> values(static_cast<size_t>(elements));
  DecodeTensor({dtype, Shape{elements}, {block, InfoOf(dtype).block_bytes}}, values);
  const float value = values[static_cast<size_t>(i)];
  if (dtype == DType::kIQ4_NL) return GapAt(kIq4Levels, ScaleOf<BlockIQ4_NL>(block), value);
  if (dtype == DType::kIQ4_XS) return GapAt(kIq4Levels, ScaleOfIq4Xs(*AsBlocks<BlockIQ4_XS>(block), i), value);
  if (dtype == DType::kMXFP4) return GapAt(kE2M1Levels, MxHalfScale(AsBlocks<BlockMXFP4>(block)->e), value);
  return TypicalStep(dtype, values);
}

}  // namespace

float StepAt(const TensorView& view, int64_t row, int64_t col) {
  if (view.dtype == DType::kAprQ8) return std::fabs(LoadLe<float>(view.bytes.data()));
  const DTypeInfo& info = InfoOf(view.dtype);
  if (info.block_elems <= 1) return 0;
  const bool flat = view.dtype == DType::kAprQ4;
  const int64_t at = flat ? row * view.cols() + col : col, elems = info.block_elems;
  const std::byte* first = view.bytes.data() + (flat ? 0 : static_cast<uint64_t>(row) * view.row_bytes());
  const float step = std::fabs(StepIn(view.dtype, first + static_cast<uint64_t>(at / elems) * info.block_bytes, static_cast<int>(at % elems)));
  return std::isfinite(step) ? step : 0;
}

}  // namespace apr
