// See packed_codes.h.
#include "quant/packed_codes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "quant/mx.h"

namespace apr {
namespace {

// Codes [0, out.size()) of a row. Eight of them fill as many bytes as one has bits.
void ReadCodes(const std::byte* row, int bits, bool high_first, std::span<uint8_t> out) {
  const auto mask = static_cast<uint8_t>((1u << bits) - 1);
  for (size_t i = 0; i < out.size(); i += 8) {
    const size_t count = std::min<size_t>(8, out.size() - i);
    uint64_t word = 0;
    std::memcpy(&word, row + i / 8 * static_cast<size_t>(bits), (count * static_cast<size_t>(bits) + 7) / 8);
    if (high_first) word = (word >> 4 & 0x0F0F0F0F0F0F0F0F) | (word & 0x0F0F0F0F0F0F0F0F) << 4;
    for (size_t k = 0; k < count; ++k) out[i + k] = static_cast<uint8_t>(word >> (static_cast<size_t>(bits) * k)) & mask;
  }
}

// For each code the distance to the farther of the next values below and above.
std::vector<float> StepsOf(const std::vector<float>& values) {
  std::vector<float> sorted = values, out(values.size(), 0);
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < values.size(); ++i) {
    const auto above = std::upper_bound(sorted.begin(), sorted.end(), values[i]);
    const auto here = std::lower_bound(sorted.begin(), sorted.end(), values[i]);
    if (above != sorted.end()) out[i] = *above - values[i];
    if (here != sorted.begin()) out[i] = std::max(out[i], values[i] - *(here - 1));
  }
  return out;
}

}  // namespace

std::vector<float> E2M1Values() {
  std::vector<float> out;
  for (const int8_t level : kE2M1Levels) out.push_back(0.5f * static_cast<float>(level));
  return out;
}

std::vector<float> E2M3Values() {
  std::vector<float> out;
  for (int code = 0; code < 64; ++code) {
    const int exponent = code >> 3 & 3, mantissa = code & 7;
    const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -3) : std::ldexp(static_cast<float>(8 + mantissa), exponent - 4);
    out.push_back(code < 32 ? size : -size);
  }
  return out;
}

std::vector<float> IntegerValues(int bits) {
  std::vector<float> out;
  for (int code = 0; code < 1 << bits; ++code) out.push_back(static_cast<float>(code));
  return out;
}

Shape CheckCoded(const CodedParts& p) {
  const auto elements = p.shape.NumElementsChecked();
  if (p.shape.ndim() != 2 || !elements || *elements == 0) RefusePart(fmt::format("a weight of {} is no matrix", p.shape.ToString()), p.codes);
  const bool known = p.bits >= 1 && p.bits <= 8 && p.values.size() == size_t{1} << p.bits;
  if (!known || !std::all_of(p.values.begin(), p.values.end(), [](float v) { return std::isfinite(v); })) {
    RefusePart(fmt::format("codes of {} bits have no values", p.bits), p.codes);
  }
  if (p.shape.cols() % 8 * p.bits % 8 != 0) RefusePart(fmt::format("rows of {} codes of {} bits do not begin at a byte", p.shape.cols(), p.bits), p.codes);
  const auto bits = CheckedMul(static_cast<uint64_t>(*elements), static_cast<uint64_t>(p.bits));
  if (!bits || *bits / 8 != p.codes.bytes.size()) RefusePart(fmt::format("the codes of {} do not fill it, {} bits each", p.shape.ToString(), p.bits), p.codes);
  if (p.block < 1) RefusePart("no elements share a scale", p.scale.of);
  const int64_t blocks = (*elements - 1) / p.block + 1;
  CheckScale(p.scale, blocks);
  if (p.bias && (!IsPlainFloat(p.bias->dtype) || p.bias->shape.num_elements() != blocks)) RefusePart(fmt::format("there must be {} biases, floats", blocks), *p.bias);
  return p.shape;
}

void DecodeCodedRows(const CodedParts& p, int64_t first, int64_t count, std::span<float> out, PackedRead what) {
  const int64_t in = p.shape.cols();
  const bool steps = what == PackedRead::kSteps;
  const std::vector<float> values = steps ? StepsOf(p.values) : p.values;
  std::vector<uint8_t> codes(static_cast<size_t>(in));
  for (int64_t row = first; row < first + count; ++row) {
    ReadCodes(p.codes.bytes.data() + row * in * p.bits / 8, p.bits, p.high_first, codes);
    float* to = out.data() + (row - first) * in;
    for (int64_t i = 0; i < in;) {
      const int64_t block = (row * in + i) / p.block, end = std::min(in, (block + 1) * p.block - row * in);
      const float scale = steps ? std::fabs(p.scale.At(block)) : p.scale.At(block);
      for (int64_t k = i; k < end; ++k) to[k] = values[codes[static_cast<size_t>(k)]] * scale;
      if (p.bias && !steps) std::transform(to + i, to + end, to + i, [bias = ElementAt(*p.bias, block)](float v) { return v + bias; });
      i = end;
    }
  }
}

}  // namespace apr
