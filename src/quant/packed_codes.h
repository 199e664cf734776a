// Weights stored as codes of a few bits that a table or a straight line gives a meaning, with scales that may be narrow themselves:
// NVFP4 and MXFP6 of compressed-tensors and ModelOpt, MLX, NF4 and FP4 of bitsandbytes. All decode to a row-major [out, in] f32.
//
// Sources: vllm-project/compressed-tensors compressors/nvfp4, mxfp6 (pack_fp6_to_uint8); NVIDIA/Model-Optimizer
// modelopt/torch/quantization/qtensor/nvfp4_tensor.py; ml-explore/mlx mlx/ops.cpp (quantize, dequantize);
// bitsandbytes-foundation/bitsandbytes functional.py (QuantState.as_dict, dequantize_4bit).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "quant/packed_int.h"
#include "quant/packed_scale.h"
#include "tensor/tensor.h"

namespace apr {

struct CodedParts {
  std::string name;          // what the field calls it: "NVFP4", "MLX int4"
  Shape shape;               // [out, in]; in * bits a multiple of 8
  TensorView codes;          // rows one behind the other, of any type: a little-endian stream of codes
  int bits = 4;              // 1 to 8
  bool high_first = false;   // 4 bits: of two codes in a byte the first is the high half
  std::vector<float> values; // what each code means, 2^bits
  int64_t block = 0;         // elements, counted through all rows, that share a scale
  PackedScale scale;
  std::optional<TensorView> bias;  // F32, F16 or BF16, one for each scale: added
};

// The values of the 4-bit float E2M1, of the 6-bit float E2M3, and of unsigned integers.
std::vector<float> E2M1Values();
std::vector<float> E2M3Values();
std::vector<float> IntegerValues(int bits);

// Shape of the decoded weight, checked against every part. Throws Error(kInvalidFormat).
Shape CheckCoded(const CodedParts& parts);
// After the check, as the functions of packed_int.h.
void DecodeCodedRows(const CodedParts& parts, int64_t first, int64_t count, std::span<float> out, PackedRead what = PackedRead::kValues);

}  // namespace apr
