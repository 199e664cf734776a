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
  if (!condition) RefusePart(what, part);
}

void RequireWords(const TensorView& part, const char* what) {
  Require(part.dtype == DType::kI32 && part.shape.ndim() == 2, what, part);
}
void RequireFloats(const TensorView& part, const char* what) {
  Require(IsPlainFloat(part.dtype) && part.shape.ndim() == 2, what, part);
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

const std::byte* WordAt(const TensorView& view, int64_t row, int64_t col) {
  return view.bytes.data() + 4 * (row * view.cols() + col);
}

uint32_t AwqField(const TensorView& view, int64_t row, int64_t col) {
  const auto word = LoadLe<uint32_t>(WordAt(view, row, col / 8));
  return (word >> (kAwqBits * kAwqNibble[col % 8])) & 15u;
}

bool IsPowerOfTwo(int bits) { return (bits & (bits - 1)) == 0; }
bool IsPlanar(const GptqParts& p) { return p.planar || (p.bits > 4 && p.bits < 8); }

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

uint32_t PlanarField(const std::byte* words, int64_t stride, int64_t index, int bits) {
  const std::byte* word = words + 4 * stride * bits * (index / 32);
  const auto within = static_cast<int>(index % 32);
  uint32_t value = 0;
  for (int offset = 0; offset < bits;) {
    const int left = bits - offset, width = left >= 4 ? 4 : left >= 2 ? 2 : 1, each = 32 / width;
    const auto plane = LoadLe<uint32_t>(word + 4 * stride * (within / each));
    value |= (plane >> (width * (within % each)) & ((1u << width) - 1)) << offset;
    word += 4 * stride * width;
    offset += width;
  }
  return value;
}

Shape CheckGptq(const GptqParts& p) {
  RequireWords(p.qweight, "qweight must be I32 with 2 dims");
  RequireWords(p.qzeros, "qzeros must be I32 with 2 dims");
  RequireFloats(p.scales, "scales must be floats with 2 dims");
  Require(p.bits >= 2 && p.bits <= 8 && p.qweight.rows() * 32 % p.bits == 0, "qweight does not fit its bits", p.qweight);
  const int64_t in = p.qweight.rows() * 32 / p.bits, out = p.qweight.cols(), groups = p.scales.rows();
  Require(!IsPlanar(p) || (in % 32 == 0 && out % 32 == 0), "planes need whole runs of 32", p.qweight);
  Require(p.scales.cols() == out && groups > 0, "scales must be [groups, out]", p.scales);
  Require(p.qzeros.shape == Shape({groups, WordsFor(out, p.bits)}),
          "qzeros must be [groups, out * bits / 32]", p.qzeros);
  if (p.g_idx) CheckGroups(*p.g_idx, in, groups);
  return {out, in};
}

namespace {

// Bits 2, 4, 8: a word of stored zero points, each one more.
uint32_t OneMoreEach(uint32_t word, int bits, GptqZero how) {
  const uint32_t ones = 0xFFFFFFFFu / ((1u << bits) - 1), top = ones << (bits - 1);
  return how == GptqZero::kWordMinusOnes ? word + ones : ((word & ~top) + ones) ^ (word & top);
}

// The zero point of a row in a group.
uint32_t ZeroOf(const GptqParts& p, int64_t group, int64_t row) {
  const std::byte* words = WordAt(p.qzeros, group, 0);
  const uint32_t mask = (1u << p.bits) - 1;
  if (IsPowerOfTwo(p.bits)) {
    const int64_t each = 32 / p.bits;
    const auto word = LoadLe<uint32_t>(words + 4 * (row / each));
    return (p.zero == GptqZero::kItself ? word : OneMoreEach(word, p.bits, p.zero)) >> (p.bits * (row % each)) & mask;
  }
  const uint32_t stored = IsPlanar(p) ? PlanarField(words, 1, row, p.bits) : PackedField(words, 1, row, p.bits);
  return p.zero == GptqZero::kItself ? stored : (stored + 1) & mask;
}

double MeanCode(const GptqParts& p, const std::vector<int32_t>& group_of, int64_t group, int64_t row) {
  double sum = 0, count = 0;
  for (size_t i = 0; i < group_of.size(); ++i) {
    if (group_of[i] != group) continue;
    sum += PackedField(WordAt(p.qweight, 0, row), p.qweight.cols(), static_cast<int64_t>(i), p.bits);
    ++count;
  }
  return count == 0 ? 0 : sum / count;
}

}  // namespace

GptqZero ZeroOfFormat1(const GptqParts& p) {
  if (!IsPowerOfTwo(p.bits)) return GptqZero::kFieldMinusOne;
  constexpr int kEnough = 16;  // each touches as many pages as its group has inputs
  const int64_t groups = p.scales.rows(), rows = p.qweight.cols(), each = 32 / p.bits;
  std::vector<int32_t> group_of;
  double dd = 0, ds = 0, ss = 0;  // d: a mean from the zero point of words, s: that of fields from it
  int seen = 0;
  for (int64_t at = 0; at < p.qzeros.shape.num_elements() && seen < kEnough; ++at) {
    const auto stored = LoadLe<uint32_t>(p.qzeros.bytes.data() + 4 * at);
    const uint32_t word = OneMoreEach(stored, p.bits, GptqZero::kWordMinusOnes), field = OneMoreEach(stored, p.bits, GptqZero::kFieldMinusOne);
    if (word == field) continue;
    if (group_of.empty()) group_of = GroupOfInput(p.g_idx, p.qweight.rows() * 32 / p.bits, groups);
    const int64_t group = at / p.qzeros.cols(), first = at % p.qzeros.cols() * each;
    for (int64_t k = 0; k < std::min(each, rows - first); ++k) {
      const uint32_t mask = (1u << p.bits) - 1, w = word >> (p.bits * k) & mask, f = field >> (p.bits * k) & mask;
      if (w == f) continue;
      const double d = MeanCode(p, group_of, group, first + k) - w, step = static_cast<double>(f) - w;
      dd += d * d;
      ds += d * step;
      ss += step * step;
      ++seen;
    }
  }
  // d = share * s by least squares: a share of 0 or 1, if the scatter of the means lets it be told (of 8 bits it seldom does).
  if (seen == 0) return GptqZero::kWordMinusOnes;
  const double share = ds / ss, error = std::sqrt((dd - share * ds) / seen / ss);
  return share > 0.5 && share > 3 * error ? GptqZero::kFieldMinusOne : GptqZero::kWordMinusOnes;
}

void DecodeGptqRows(const GptqParts& p, int64_t first, int64_t count, std::span<float> out, PackedRead what) {
  const int64_t in = p.qweight.rows() * 32 / p.bits, groups = p.scales.rows();
  const std::vector<int32_t> group_of = GroupOfInput(p.g_idx, in, groups);
  RowGroups of(group_of, groups, 0);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    for (int64_t g = 0; g < groups; ++g) {
      of.zero[static_cast<size_t>(g)] = static_cast<float>(ZeroOf(p, g, row));
      of.scale[static_cast<size_t>(g)] = ElementAt(p.scales, g * p.scales.cols() + row);
    }
    const std::span<float> to = out.subspan(static_cast<size_t>(r * in), static_cast<size_t>(in));
    const std::byte* words = WordAt(p.qweight, 0, row);
    if (IsPlanar(p)) {
      for (int64_t i = 0; i < in; ++i) to[static_cast<size_t>(i)] = static_cast<float>(PlanarField(words, p.qweight.cols(), i, p.bits));
    } else {
      ReadFields(words, p.qweight.cols(), p.bits, to);
    }
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
      of.scale[static_cast<size_t>(g)] = ElementAt(p.scales, g * p.scales.cols() + row);
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
  const bool one = p.scale.shape.num_elements() == 1;
  if (one) Require(IsPlainFloat(p.scale.dtype), "weight_scale must be floats", p.scale);
  else RequireFloats(p.scale, "weight_scale must be floats with 2 dims");
  const int64_t out = p.packed.rows(), groups = one ? 1 : p.scale.cols();
  Require(p.bits >= 1 && p.bits <= 8 && p.in > 0 && p.in <= p.packed.cols() * 32 && p.packed.cols() == WordsFor(p.in, p.bits),
          "weight_packed does not fit weight_shape and bits", p.packed);
  Require(one || (p.scale.rows() == out && groups > 0), "weight_scale must be [out, groups]", p.scale);
  if (p.zero_point) {
    RequireWords(*p.zero_point, "weight_zero_point must be I32 with 2 dims");
    Require(p.zero_point->shape == Shape({WordsFor(out, p.bits), groups}),
            "weight_zero_point must be [out * bits / 32, groups]", *p.zero_point);
  }
  if (p.g_idx) CheckGroups(*p.g_idx, p.in, groups);
  return {out, p.in};
}

void DecodeCompressedRows(const CompressedParts& p, int64_t first, int64_t count, std::span<float> out, PackedRead what) {
  const bool one = p.scale.shape.num_elements() == 1;
  const int64_t groups = one ? 1 : p.scale.cols();
  const std::vector<int32_t> group_of = GroupOfInput(p.g_idx, p.in, groups);
  RowGroups of(group_of, groups, static_cast<float>(1 << (p.bits - 1)));
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    for (int64_t g = 0; g < groups; ++g) {
      of.scale[static_cast<size_t>(g)] = ElementAt(p.scale, one ? 0 : row * groups + g);
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
  const Shape& scales = p.scale.of.shape;
  CheckScale(p.scale, scales.num_elements());
  const bool fits = scales.ndim() == 2 && scales.rows() >= 1 && scales.rows() <= p.weight.rows() && scales.cols() >= 1 && scales.cols() <= p.weight.cols();
  Require(fits || scales.num_elements() == 1, "the scale must have a row for each run of rows and a column for each run of columns", p.scale.of);
  if (p.zero_point) {
    Require(p.zero_point->dtype == DType::kI8 || IsPlainFloat(p.zero_point->dtype) || p.zero_point->dtype == p.weight.dtype, "zero points must be I8 or floats",
            *p.zero_point);
    Require(p.zero_point->shape.num_elements() == scales.num_elements(), "there must be as many zero points as scales", *p.zero_point);
  }
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
  const bool one = p.scale.of.shape.num_elements() == 1, steps = what == PackedRead::kSteps;
  const int64_t in = p.weight.cols(), scale_cols = one ? 1 : p.scale.of.cols();
  const int64_t rows_each = BlockLength(p.weight.rows(), one ? 1 : p.scale.of.rows());
  const int64_t cols_each = std::max<int64_t>(BlockLength(in, scale_cols), 1);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    float* to = out.data() + r * in;
    DecodeRow(p.weight.dtype, p.weight.bytes.data() + row * in, in, to);
    if (steps) std::transform(to, to + in, to, [&](float v) { return StepAt(p.weight.dtype, v); });
    const int64_t scale_row = row / std::max<int64_t>(rows_each, 1) * scale_cols;
    for (int64_t i = 0; i < in; i += cols_each) {
      const int64_t at = scale_row + i / cols_each;
      const float scale = steps ? std::fabs(p.scale.At(at)) : p.scale.At(at), zero = p.zero_point && !steps ? ElementAt(*p.zero_point, at) : 0.0f;
      for (int64_t k = i; k < std::min(in, i + cols_each); ++k) to[k] = (to[k] - zero) * scale;
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
