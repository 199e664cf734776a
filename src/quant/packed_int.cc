// See packed_int.h.
#include "quant/packed_int.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/error.h"
#include "quant/mx.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr int kAwqBits = 4;
// Nibble k of an AWQ word holds column kAwqOrder[k]; this is its inverse: the nibble of a column.
constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

void Require(bool condition, const char* what, const TensorView& part) {
  if (condition) return;
  throw Error(ErrorCode::kInvalidFormat,
              fmt::format("packed weight: {}; it is {} {}", what, NameOf(part.dtype),
                          part.shape.ToString()));
}

void RequireWords(const TensorView& part, const char* what) {
  Require(part.dtype == DType::kI32 && part.shape.ndim() == 2, what, part);
}
void RequireFloats(const TensorView& part, const char* what) {
  const bool is_float = part.dtype == DType::kF32 || part.dtype == DType::kF16 ||
                        part.dtype == DType::kBF16;
  Require(is_float && part.shape.ndim() == 2, what, part);
}

int64_t WordsFor(int64_t count, int bits) { return (count * bits + 31) / 32; }

void CheckGroups(const TensorView& g_idx, int64_t in, int64_t groups) {
  Require(g_idx.dtype == DType::kI32 && g_idx.shape == Shape{in}, "g_idx must be I32 [in]", g_idx);
  for (int64_t i = 0; i < in; ++i) {
    const auto group = LoadLe<int32_t>(g_idx.bytes.data() + 4 * i);
    Require(group >= 0 && group < groups, "g_idx names a group that has no scale", g_idx);
  }
}

// The group of every input: from g_idx, else `groups` runs of equal length.
std::vector<int32_t> GroupOfInput(const std::optional<TensorView>& g_idx, int64_t in, int64_t groups) {
  std::vector<int32_t> out(static_cast<size_t>(in));
  const int64_t length = std::max<int64_t>((in + groups - 1) / std::max<int64_t>(groups, 1), 1);
  for (int64_t i = 0; i < in; ++i) {
    out[static_cast<size_t>(i)] = g_idx ? LoadLe<int32_t>(g_idx->bytes.data() + 4 * i)
                                        : static_cast<int32_t>(i / length);
  }
  return out;
}

float FloatAt(const TensorView& view, int64_t index) {
  float value;
  const DTypeInfo& info = InfoOf(view.dtype);
  DecodeRow(view.dtype, view.bytes.data() + static_cast<size_t>(index) * info.block_bytes, 1, &value);
  return value;
}

const std::byte* WordAt(const TensorView& view, int64_t row, int64_t col) {
  return view.bytes.data() + 4 * (row * view.cols() + col);
}

uint32_t AwqField(const TensorView& view, int64_t row, int64_t col) {
  const auto word = LoadLe<uint32_t>(WordAt(view, row, col / 8));
  return (word >> (kAwqBits * kAwqNibble[col % 8])) & 15u;
}

// Fields 0 to out.size() of a stream as PackedField has them.
void ReadFields(const std::byte* words, int64_t stride, int bits, std::span<float> out) {
  const auto count = static_cast<int64_t>(out.size());
  const int64_t each = 32 % bits == 0 ? 32 / bits : 0;  // 0: fields cross words
  const uint32_t mask = (1u << bits) - 1;
  int64_t i = 0;
  for (; each > 0 && i + each <= count; i += each, words += 4 * stride) {
    const auto word = LoadLe<uint32_t>(words);
    for (int64_t k = 0; k < each; ++k) out[static_cast<size_t>(i + k)] = static_cast<float>((word >> (bits * k)) & mask);
  }
  const int64_t top = i;
  for (; i < count; ++i) out[static_cast<size_t>(i)] = static_cast<float>(PackedField(words, stride, i - top, bits));
}

// One row's groups: what its codes mean.
struct RowGroups {
  const std::vector<int32_t>& of_input;  // the group of every input
  std::vector<float> scale, zero;

  RowGroups(const std::vector<int32_t>& group_of_input, int64_t groups, float every_zero)
      : of_input(group_of_input), scale(static_cast<size_t>(groups)), zero(static_cast<size_t>(groups), every_zero) {}

  // Codes become values, or steps.
  void Apply(PackedRead what, std::span<float> row) const {
    for (size_t first = 0; first < row.size();) {
      const int32_t group = of_input[first];
      size_t end = first + 1;
      while (end < row.size() && of_input[end] == group) ++end;
      const float s = scale[static_cast<size_t>(group)], z = zero[static_cast<size_t>(group)];
      for (size_t i = first; i < end; ++i) row[i] = what == PackedRead::kSteps ? std::fabs(s) : (row[i] - z) * s;
      first = end;
    }
  }
};

}  // namespace

uint32_t PackedField(const std::byte* words, int64_t stride, int64_t index, int bits) {
  const int64_t bit = index * bits;
  const int64_t word = bit / 32;
  const int shift = static_cast<int>(bit % 32);
  uint64_t value = LoadLe<uint32_t>(words + 4 * word * stride);
  if (shift + bits > 32) {
    value |= uint64_t{LoadLe<uint32_t>(words + 4 * (word + 1) * stride)} << 32;
  }
  return static_cast<uint32_t>(value >> shift) & ((1u << bits) - 1);
}

Shape CheckGptq(const GptqParts& p) {
  RequireWords(p.qweight, "qweight must be I32 with 2 dims");
  RequireWords(p.qzeros, "qzeros must be I32 with 2 dims");
  RequireFloats(p.scales, "scales must be floats with 2 dims");
  const bool known = p.bits == 2 || p.bits == 3 || p.bits == 4 || p.bits == 8;
  Require(known && p.qweight.rows() * 32 % p.bits == 0, "qweight does not fit its bits", p.qweight);
  const int64_t in = p.qweight.rows() * 32 / p.bits, out = p.qweight.cols(), groups = p.scales.rows();
  Require(p.scales.cols() == out && groups > 0, "scales must be [groups, out]", p.scales);
  Require(p.qzeros.shape == Shape({groups, WordsFor(out, p.bits)}),
          "qzeros must be [groups, out * bits / 32]", p.qzeros);
  if (p.g_idx) CheckGroups(*p.g_idx, in, groups);
  return {out, in};
}

void DecodeGptqRows(const GptqParts& p, int64_t first, int64_t count, std::span<float> out, PackedRead what) {
  const int64_t in = p.qweight.rows() * 32 / p.bits, groups = p.scales.rows();
  const std::vector<int32_t> group_of = GroupOfInput(p.g_idx, in, groups);
  const uint32_t mask = (1u << p.bits) - 1;
  RowGroups of(group_of, groups, 0);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    for (int64_t g = 0; g < groups; ++g) {
      const uint32_t stored = PackedField(WordAt(p.qzeros, g, 0), 1, row, p.bits);
      of.zero[static_cast<size_t>(g)] = static_cast<float>(p.zero_minus_one ? (stored + 1) & mask : stored);
      of.scale[static_cast<size_t>(g)] = FloatAt(p.scales, g * p.scales.cols() + row);
    }
    const std::span<float> to = out.subspan(static_cast<size_t>(r * in), static_cast<size_t>(in));
    ReadFields(WordAt(p.qweight, 0, row), p.qweight.cols(), p.bits, to);
    of.Apply(what, to);
  }
}

Shape CheckAwq(const AwqParts& p) {
  RequireWords(p.qweight, "qweight must be I32 with 2 dims");
  RequireWords(p.qzeros, "qzeros must be I32 with 2 dims");
  RequireFloats(p.scales, "scales must be floats with 2 dims");
  const int64_t in = p.qweight.rows(), words = p.qweight.cols(), groups = p.scales.rows();
  Require(groups > 0 && p.scales.cols() == words * 8, "scales must be [groups, out]", p.scales);
  Require(p.qzeros.shape == Shape({groups, words}), "qzeros must be [groups, out / 8]", p.qzeros);
  return {words * 8, in};
}

void DecodeAwqRows(const AwqParts& p, int64_t first, int64_t count, std::span<float> out, PackedRead what) {
  const int64_t in = p.qweight.rows(), groups = p.scales.rows();
  const std::vector<int32_t> group_of = GroupOfInput(std::nullopt, in, groups);
  RowGroups of(group_of, groups, 0);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    for (int64_t g = 0; g < groups; ++g) {
      of.zero[static_cast<size_t>(g)] = static_cast<float>(AwqField(p.qzeros, g, row));
      of.scale[static_cast<size_t>(g)] = FloatAt(p.scales, g * p.scales.cols() + row);
    }
    const std::span<float> to = out.subspan(static_cast<size_t>(r * in), static_cast<size_t>(in));
    const std::byte* word = WordAt(p.qweight, 0, row / 8);
    const int shift = kAwqBits * kAwqNibble[row % 8];
    for (int64_t i = 0; i < in; ++i, word += 4 * p.qweight.cols()) to[static_cast<size_t>(i)] = static_cast<float>((LoadLe<uint32_t>(word) >> shift) & 15u);
    of.Apply(what, to);
  }
}

Shape CheckCompressed(const CompressedParts& p) {
  RequireWords(p.packed, "weight_packed must be I32 with 2 dims");
  RequireFloats(p.scale, "weight_scale must be floats with 2 dims");
  const int64_t out = p.packed.rows(), groups = p.scale.cols();
  Require((p.bits == 4 || p.bits == 8) && p.in > 0 && p.in <= p.packed.cols() * 8 &&
              p.packed.cols() == WordsFor(p.in, p.bits),
          "weight_packed does not fit weight_shape and bits", p.packed);
  Require(p.scale.rows() == out && groups > 0, "weight_scale must be [out, groups]", p.scale);
  if (p.zero_point) {
    RequireWords(*p.zero_point, "weight_zero_point must be I32 with 2 dims");
    Require(p.zero_point->shape == Shape({WordsFor(out, p.bits), groups}),
            "weight_zero_point must be [out * bits / 32, groups]", *p.zero_point);
  }
  if (p.g_idx) CheckGroups(*p.g_idx, p.in, groups);
  return {out, p.in};
}

void DecodeCompressedRows(const CompressedParts& p, int64_t first, int64_t count, std::span<float> out, PackedRead what) {
  const int64_t groups = p.scale.cols();
  const std::vector<int32_t> group_of = GroupOfInput(p.g_idx, p.in, groups);
  RowGroups of(group_of, groups, static_cast<float>(1 << (p.bits - 1)));
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    for (int64_t g = 0; g < groups; ++g) {
      of.scale[static_cast<size_t>(g)] = FloatAt(p.scale, row * groups + g);
      // Codes and zero points are stored with the same offset: it cancels.
      if (p.zero_point) of.zero[static_cast<size_t>(g)] = static_cast<float>(PackedField(WordAt(*p.zero_point, 0, g), groups, row, p.bits));
    }
    const std::span<float> to = out.subspan(static_cast<size_t>(r * p.in), static_cast<size_t>(p.in));
    ReadFields(WordAt(p.packed, row, 0), 1, p.bits, to);
    of.Apply(what, to);
  }
}

Shape CheckScaled(const ScaledParts& p) {
  const bool narrow = p.weight.dtype == DType::kI8 || p.weight.dtype == DType::kF8E4M3 ||
                      p.weight.dtype == DType::kF8E5M2;
  Require(narrow && p.weight.shape.ndim() == 2, "the weight must be I8 or F8 with 2 dims", p.weight);
  const bool one = p.scale.shape.num_elements() == 1;
  if (!one) RequireFloats(p.scale, "the scale must be floats with 2 dims");
  Require(one || (p.scale.rows() >= 1 && p.scale.rows() <= p.weight.rows() && p.scale.cols() >= 1 &&
                  p.scale.cols() <= p.weight.cols()),
          "the scale must have a row for each run of rows and a column for each run of columns",
          p.scale);
  return p.weight.shape;
}

namespace {

// From one value of a type to the next: of integers 1, of floats by the exponent.
float StepAt(DType dtype, float value) {
  if (dtype == DType::kI8 || !std::isfinite(value)) return 1.0f;
  const bool e4m3 = dtype == DType::kF8E4M3;
  return std::ldexp(1.0f, std::max(value == 0 ? -100 : std::ilogb(value), e4m3 ? -6 : -14) - (e4m3 ? 3 : 2));
}

// Elements that share one of `scales` scales along a dim of `size`: all (1 scale), one each, or blocks
// of a power of two whose last may be short (128 in every published model).
int64_t BlockLength(int64_t size, int64_t scales) {
  if (scales <= 1) return size;
  int64_t length = 1;
  while ((size + length - 1) / length > scales) length *= 2;
  return length;
}

}  // namespace

void DecodeScaledRows(const ScaledParts& p, int64_t first, int64_t count, std::span<float> out, PackedRead what) {
  const bool one = p.scale.shape.num_elements() == 1;
  const int64_t in = p.weight.cols(), scale_cols = one ? 1 : p.scale.cols();
  const int64_t rows_each = BlockLength(p.weight.rows(), one ? 1 : p.scale.rows());
  const int64_t cols_each = std::max<int64_t>(BlockLength(in, scale_cols), 1);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    float* to = out.data() + r * in;
    DecodeRow(p.weight.dtype, p.weight.bytes.data() + row * in, in, to);
    if (what == PackedRead::kSteps) std::transform(to, to + in, to, [&](float v) { return StepAt(p.weight.dtype, v); });
    const int64_t scale_row = row / std::max<int64_t>(rows_each, 1) * scale_cols;
    for (int64_t i = 0; i < in; i += cols_each) {
      const float scale = FloatAt(p.scale, scale_row + i / cols_each);
      for (int64_t k = i; k < std::min(in, i + cols_each); ++k) to[k] *= what == PackedRead::kSteps ? std::fabs(scale) : scale;
    }
  }
}

Shape CheckMx(const MxParts& parts) {
  const Shape& blocks = parts.blocks.shape;
  Require(parts.blocks.dtype == DType::kU8 && blocks.ndim() >= 3 && blocks[blocks.ndim() - 1] == 16, "its blocks must be U8 [..., out, groups, 16]", parts.blocks);
  const std::span<const int64_t> groups = blocks.dims().first(blocks.dims().size() - 1);
  Require(parts.scales.dtype == DType::kU8 && parts.scales.shape == Shape(groups), "its scales must be U8, one for each block of 16 bytes", parts.scales);
  std::vector<int64_t> dims(groups.begin(), groups.end());
  Require(dims.back() <= INT64_MAX / kBlock32, "its rows are too long", parts.blocks);
  dims.back() *= kBlock32;
  return Shape(dims);
}

void RepackMxRows(const MxParts& parts, int64_t first, int64_t count, std::span<std::byte> out) {
  const int64_t groups = parts.scales.cols();
  APR_CHECK(out.size() == static_cast<size_t>(count * groups) * sizeof(BlockMXFP4));
  auto* to = reinterpret_cast<BlockMXFP4*>(out.data());
  for (int64_t block = first * groups; block < (first + count) * groups; ++block, ++to) {
    to->e = std::to_integer<uint8_t>(parts.scales.bytes[static_cast<size_t>(block)]);
    const std::byte* pairs = parts.blocks.bytes.data() + block * 16;
    for (int i = 0; i < 16; ++i) {  // element i of the first half, element i + 16
      const auto low = std::to_integer<unsigned>(pairs[i / 2]) >> (4 * (i % 2)) & 15;
      const auto high = std::to_integer<unsigned>(pairs[8 + i / 2]) >> (4 * (i % 2)) & 15;
      to->qs[i] = static_cast<uint8_t>(low | high << 4);
    }
  }
}

}  // namespace apr
