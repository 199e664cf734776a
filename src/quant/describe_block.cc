// See describe_block.h.
#include "quant/describe_block.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "quant/quant.h"
#include "quant/scan.h"
#include "quant/scan_specs.h"

namespace apr {
namespace {

constexpr const BlockSpec* kSpecs[] = {
    &kSpecQ4_0, &kSpecQ4_1, &kSpecQ5_0, &kSpecQ5_1, &kSpecQ8_0, &kSpecQ8_1, &kSpecQ2_K, &kSpecQ3_K, &kSpecQ4_K, &kSpecQ5_K,
    &kSpecQ6_K, &kSpecQ8_K, &kSpecIQ1_S, &kSpecIQ1_M, &kSpecIQ2_XXS, &kSpecIQ2_XS, &kSpecIQ2_S, &kSpecIQ3_XXS, &kSpecIQ3_S,
    &kSpecIQ4_NL, &kSpecIQ4_XS, &kSpecTQ1_0, &kSpecTQ2_0, &kSpecMXFP4, &kSpecNVFP4, &kSpecAprQ4,
};

const BlockSpec* SpecOf(DType dtype) {
  const auto found = std::ranges::find_if(kSpecs, [&](const BlockSpec* spec) { return spec->dtype == dtype; });
  return found == std::end(kSpecs) ? nullptr : *found;
}

double ScaleAt(const BlockSpec& spec, int k, const std::byte* block) {
  const std::byte* at = block + spec.offset[k];
  switch (spec.kind) {
    case ScaleKind::kF16: return F16ToF32(LoadLe<uint16_t>(at));
    case ScaleKind::kF32: return LoadLe<float>(at);
    case ScaleKind::kE8M0: return E8M0ToF32(static_cast<uint8_t>(*at));
    case ScaleKind::kE4M3: return F8E4M3ToF32(static_cast<uint8_t>(*at));
    case ScaleKind::kIq1m: break;
  }
  uint16_t bits = 0;
  for (int w = 0; w < 4; ++w) bits = static_cast<uint16_t>(bits | (LoadLe<uint16_t>(at + 2 * w) >> 12) << (4 * w));
  return F16ToF32(bits);
}

// The second scale of a block: a minimum, an offset or a sum.
const char* SecondName(DType dtype) {
  if (dtype == DType::kQ4_1 || dtype == DType::kQ5_1) return "m";
  return dtype == DType::kQ8_1 ? "s" : "dmin";
}

template <typename T>
std::vector<double> Numbers(const T* values, size_t count) {
  return {values, values + count};
}

// Scales of the sub-blocks of the K types.
void AddSubScales(DType dtype, const std::byte* block, BlockDescription& out) {
  if (dtype == DType::kQ4_K || dtype == DType::kQ5_K) {
    uint8_t scales[8], mins[8];
    UnpackScalesMins(dtype == DType::kQ4_K ? AsBlocks<BlockQ4_K>(block)->scales : AsBlocks<BlockQ5_K>(block)->scales, scales, mins);
    out.fields.emplace_back("scales", Numbers(scales, 8));
    out.fields.emplace_back("mins", Numbers(mins, 8));
  } else if (dtype == DType::kQ2_K) {
    std::vector<double> scales, mins;
    for (const uint8_t s : AsBlocks<BlockQ2_K>(block)->scales) scales.push_back(s & 15), mins.push_back(s >> 4);
    out.fields.emplace_back("scales", std::move(scales));
    out.fields.emplace_back("mins", std::move(mins));
  } else if (dtype == DType::kQ3_K) {
    int8_t scales[16];
    UnpackScalesQ3(AsBlocks<BlockQ3_K>(block)->scales, scales);
    out.fields.emplace_back("scales", Numbers(scales, 16));
  } else if (dtype == DType::kQ6_K) {
    out.fields.emplace_back("scales", Numbers(AsBlocks<BlockQ6_K>(block)->scales, 16));
  } else if (dtype == DType::kIQ4_XS) {
    const auto* b = AsBlocks<BlockIQ4_XS>(block);
    std::vector<double> scales;
    for (int g = 0; g < 8; ++g) scales.push_back((((b->scales_l[g / 2] >> 4 * (g % 2)) & 15) | ((b->scales_h.get() >> 2 * g) & 3) << 4) - 32);
    out.fields.emplace_back("scales", std::move(scales));
  }
}

}  // namespace

std::vector<BlockDescription> DescribeBlocks(const TensorView& view, int64_t first, int64_t count) {
  std::vector<BlockDescription> out;
  const BlockSpec* spec = SpecOf(view.dtype);
  if (spec == nullptr || view.shape.num_elements() == 0) return out;
  const auto blocks = static_cast<int64_t>(view.bytes.size()) / spec->bytes;
  const int64_t per_row = (view.cols() + spec->elements - 1) / spec->elements;
  const bool flat = view.dtype == DType::kAprQ4;  // its blocks do not end with the rows
  for (int64_t b = std::min(first, blocks); b < std::min(first + count, blocks); ++b) {
    BlockDescription block;
    block.index = b;
    block.offset = static_cast<uint64_t>(b) * static_cast<uint64_t>(spec->bytes);
    block.bytes = view.bytes.subspan(block.offset, static_cast<size_t>(spec->bytes));
    block.first_element = flat ? b * spec->elements : b / per_row * view.cols() + b % per_row * spec->elements;
    for (int k = 0; k < spec->scales; ++k) {
      const bool many = spec->scales > 2;
      block.fields.emplace_back(many ? fmt::format("d{}", k) : k == 0 ? (spec->kind == ScaleKind::kE8M0 ? "e" : "d") : SecondName(view.dtype),
                                std::vector<double>{ScaleAt(*spec, k, block.bytes.data())});
    }
    AddSubScales(view.dtype, block.bytes.data(), block);
    block.values.resize(static_cast<size_t>(spec->elements));
    DecodeTensor({view.dtype, Shape{spec->elements}, block.bytes}, block.values);
    out.push_back(std::move(block));
  }
  return out;
}

Distribution DistributionOf(const TensorView& view, int bins) {
  Distribution out;
  out.bins.assign(static_cast<size_t>(bins), 0);
  const Statistics s = DecodedStatistics(view);
  out.finite = s.count - s.nan_count - s.inf_count;
  if (out.finite == 0) return out;
  out.min = s.min, out.max = s.max, out.mean = s.mean, out.std = s.std;
  const double width = (s.max - s.min) / bins;
  double third = 0, fourth = 0;
  ForEachDecodedPiece(view, [&](std::span<const float> values) {
    for (const float x : values) {
      if (!std::isfinite(x)) continue;
      const double d = x - s.mean;
      third += d * d * d;
      fourth += d * d * d * d;
      const double place = width > 0 ? (x - s.min) / width : 0;
      ++out.bins[std::min(static_cast<size_t>(std::max(place, 0.0)), out.bins.size() - 1)];
    }
  });
  const auto n = static_cast<double>(out.finite);
  if (s.std > 0) {
    out.skewness = third / n / (s.std * s.std * s.std);
    out.kurtosis = fourth / n / (s.std * s.std * s.std * s.std);
  }
  return out;
}

double ByteEntropy(Bytes bytes) {
  std::array<uint64_t, 256> counts{};
  for (const std::byte b : bytes) ++counts[static_cast<size_t>(b)];
  double entropy = 0;
  for (const uint64_t count : counts) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / static_cast<double>(bytes.size());
    entropy -= p * std::log2(p);
  }
  return entropy;
}

}  // namespace apr
