// See packed_scale.h.
#include "quant/packed_scale.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "quant/quant.h"

namespace apr {

void RefusePart(const std::string& what, const TensorView& part) {
  throw Error(ErrorCode::kInvalidFormat, fmt::format("packed weight: {}; it is {} {}", what, NameOf(part.dtype), part.shape.ToString()));
}

bool IsPlainFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

float ElementAt(const TensorView& part, int64_t index) {
  float value;
  DecodeRow(part.dtype, part.bytes.data() + static_cast<size_t>(index) * InfoOf(part.dtype).block_bytes, 1, &value);
  return value;
}

float PackedScale::At(int64_t index) const {
  if (!table.empty()) return table[std::to_integer<size_t>(of.bytes[static_cast<size_t>(index)])] * ElementAt(outer, index / outer_block) + offset;
  if (of.dtype == DType::kF8E8M0) {
    const auto exponent = std::to_integer<int>(of.bytes[static_cast<size_t>(index)]);
    return exponent == 255 ? NAN : std::ldexp(factor, exponent - 127);
  }
  return ElementAt(of, index) * factor;
}

void CheckScale(const PackedScale& scale, int64_t count) {
  const DType dtype = scale.of.dtype;
  if (scale.of.shape.num_elements() != count) RefusePart(fmt::format("there must be {} scales", count), scale.of);
  if (scale.table.empty()) {
    if (!IsPlainFloat(dtype) && dtype != DType::kF8E4M3 && dtype != DType::kF8E5M2 && dtype != DType::kF8E8M0) RefusePart("scales must be floats", scale.of);
    return;
  }
  if (dtype != DType::kU8 || scale.table.size() != 256) RefusePart("scales of scales must be bytes that a table of 256 values explains", scale.of);
  const int64_t outer = scale.outer_block > 0 ? (count + scale.outer_block - 1) / scale.outer_block : -1;
  if (scale.outer.dtype != DType::kF32 || scale.outer.shape.num_elements() != outer) RefusePart(fmt::format("there must be {} scales of scales in F32", outer), scale.outer);
}

}  // namespace apr
