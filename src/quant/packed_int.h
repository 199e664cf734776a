// Integer weights packed into 32-bit words with scales beside them, as Python tools store them in
// safetensors: GPTQ, AWQ, compressed-tensors; and 8-bit floats with block scales. Each has its own order
// of bits and its own zero point; all decode to a row-major [out, in] f32. MXFP4 in two tensors becomes
// the block type MXFP4.
//
// Sources: AutoGPTQ auto_gptq/nn_modules/qlinear/qlinear_cuda.py (pack), GPTQModel
// gptqmodel/utils/model.py (v1 and v2 zero points), utils/planar_packing.py, AutoAWQ awq/modules/linear/gemm.py (from_linear),
// transformers src/transformers/integrations/mxfp4.py (convert_moe_packed_tensors), vllm-project/compressed-tensors compressors/quantized_compressors/pack_quantized.py,
// deepseek-ai/DeepSeek-V3 inference/kernel.py (weight_dequant).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "quant/packed_scale.h"
#include "tensor/tensor.h"

namespace apr {

// Field `index` of `bits` bits in a little-endian stream of 32-bit words that lie `stride` words apart.
// A field may cross from one word into the next (3 bits).
uint32_t PackedField(const std::byte* words, int64_t stride, int64_t index, int bits);

// Field `index` where each 32 fields of 3, 5, 6 or 7 bits lie as planes of 4, 2 and 1 bits, the low ones first (GPTQModel's gptq_p).
uint32_t PlanarField(const std::byte* words, int64_t stride, int64_t index, int bits);

// How GPTQ stores a zero point. Format 2 as it is; format 1 one less, which a zero of 0 takes from all that the word holds, so that
// the next field is one less still (GPTQModel, AutoRound: the word as a number less 0x11111111), or from its own field alone, modulo
// 2^bits (3 bits and more that are no power of two, and other writers).
enum class GptqZero { kItself, kWordMinusOnes, kFieldMinusOne };

struct GptqParts {
  TensorView qweight;  // I32 [in * bits / 32, out], packed along in
  TensorView qzeros;   // I32 [groups, out * bits / 32], packed along out
  TensorView scales;   // float [groups, out]
  std::optional<TensorView> g_idx;  // I32 [in]: the group of each input; absent: in order
  int bits = 4;        // 2 to 8; 5, 6 and 7 always planar
  bool planar = false; // 3 bits
  GptqZero zero = GptqZero::kWordMinusOnes;
};
struct AwqParts {
  TensorView qweight;  // I32 [in, out / 8]; in each word the columns stand in the order 0 2 4 6 1 3 5 7
  TensorView qzeros;   // I32 [groups, out / 8], the same order
  TensorView scales;   // float [groups, out]
};
struct CompressedParts {
  TensorView packed;   // I32 [out, ceil(in * bits / 32)], q + 2^(bits - 1), packed along in
  TensorView scale;    // float [out, groups], groups = 1 for one scale per row; or one number for the whole tensor
  std::optional<TensorView> zero_point;  // I32 [ceil(out * bits / 32), groups], packed along out
  std::optional<TensorView> g_idx;       // I32 [in]
  int64_t in = 0;      // weight_shape[1]
  int bits = 4;        // 1 to 8
};
struct ScaledParts {
  TensorView weight;   // I8 or F8, [out, in]
  // [ceil(out / block_out), ceil(in / block_in)], or one number for the whole tensor.
  PackedScale scale;
  std::optional<TensorView> zero_point;  // I8 or float, of the scale's shape: taken away before scaling
};
struct MxParts {
  TensorView blocks;   // U8 [..., out, in / 32, 16]: elements 2i and 2i + 1 of 32 in the low and the high half of byte i
  TensorView scales;   // U8 [..., out, in / 32]: E8M0
};

// Shape of the decoded weight, checked: every part has the shape and type that the others need, the
// group numbers are in range. Throws Error(kInvalidFormat).
Shape CheckGptq(const GptqParts& parts);
// Which way of format 1 makes the weights that are next to zeros of 0 the more nearly 0 on average; where that does not tell, words
// (2, 4 and 8 bits). After the check.
GptqZero ZeroOfFormat1(const GptqParts& parts);
Shape CheckAwq(const AwqParts& parts);
Shape CheckCompressed(const CompressedParts& parts);
Shape CheckScaled(const ScaledParts& parts);
Shape CheckMx(const MxParts& parts);  // [..., out, in]

// After the check: rows [first, first + count) of the weight, or with kSteps the distance of each element to the next
// value that its code can have. out.size() == count * in. Any two calls on different rows may run at the same time.
enum class PackedRead { kValues, kSteps };
void DecodeGptqRows(const GptqParts& parts, int64_t first, int64_t count, std::span<float> out, PackedRead what = PackedRead::kValues);
void DecodeAwqRows(const AwqParts& parts, int64_t first, int64_t count, std::span<float> out, PackedRead what = PackedRead::kValues);
void DecodeCompressedRows(const CompressedParts& parts, int64_t first, int64_t count, std::span<float> out, PackedRead what = PackedRead::kValues);
void DecodeScaledRows(const ScaledParts& parts, int64_t first, int64_t count, std::span<float> out, PackedRead what = PackedRead::kValues);
// Rows of all matrices, counted through, as blocks of type MXFP4: 17 bytes for 32 elements.
void RepackMxRows(const MxParts& parts, int64_t first, int64_t count, std::span<std::byte> out);

}  // namespace apr
