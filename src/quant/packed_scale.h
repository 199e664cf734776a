// The parts that packed weights are made of, and the scales of packed_int.h and packed_codes.h, which may be narrow themselves.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace apr {

// Throws Error(kInvalidFormat): what is wrong with a part, and its type and shape.
[[noreturn]] void RefusePart(const std::string& what, const TensorView& part);

bool IsPlainFloat(DType dtype);  // F32, F16 or BF16
// Element `index` of a part of any type of one element a block that quant.h decodes.
float ElementAt(const TensorView& part, int64_t index);

// Numbers that scale runs of elements.
struct PackedScale {
  TensorView of;     // F32, F16, BF16, F8_E4M3, F8_E5M2, F8_E8M0; U8 with a table
  float factor = 1;  // of every one
  // bitsandbytes' nested scales: table[of[i]] * outer[i / outer_block] + offset.
  std::vector<float> table;  // empty, or 256 values
  TensorView outer;          // F32
  int64_t outer_block = 0;
  float offset = 0;

  float At(int64_t index) const;
};
// There are `count` of them, of a type that At reads. Throws Error(kInvalidFormat).
void CheckScale(const PackedScale& scale, int64_t count);

}  // namespace apr
