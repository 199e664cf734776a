// Weights that a safetensors model stores as several tensors (packed integers and their scales), found
// by name and presented as the one weight that the model has.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "format/model_file.h"
#include "quant/packed_codes.h"
#include "quant/packed_int.h"

namespace apr {

struct PackedWeight {
  std::string name;                // of the logical tensor: "<module>.weight"
  Shape shape;                     // [out, in]; MXFP4: [..., out, in]
  const char* scheme;              // "gptq", "awq", "compressed-tensors", "scaled", "mxfp4", "mlx", "bitsandbytes", "nvfp4"
  std::vector<std::string> parts;  // names of the tensors it is made of
  std::variant<GptqParts, AwqParts, CompressedParts, ScaledParts, MxParts, CodedParts> data;  // views into the ModelFile

  DType dtype() const;  // of what it becomes: F32, or MXFP4
  double typical_error() const;  // relative, on Gaussian values
  std::string stored_as() const;  // "GPTQ int4", "F8_E4M3 with scales"
  // Rows [first, first + count) in that type.
  void ReadRows(int64_t first, int64_t count, std::span<std::byte> out) const;
  // The same decoded, or the steps of its codes (packed_int.h; not of MXFP4); out.size() == count * shape.cols().
  void DecodeRows(int64_t first, int64_t count, std::span<float> out, PackedRead what = PackedRead::kValues) const;
};

// Every packed weight of `file`, in file order of its first part:
//   <module>.qweight, .qzeros, .scales [, .g_idx]                        GPTQ or AWQ, told by shapes
//   <module>.weight_packed, .weight_scale, .weight_shape
//            [, .weight_zero_point, .weight_g_idx]                        compressed-tensors, integers of 1 to 8 bits
//   <module>.weight (I8 or F8), .weight_scale or .weight_scale_inv
//            [, .weight_zero_point]                                       one scale per block, row or all
//   <module>.weight (I8), .SCB [, .weight_format]                         bitsandbytes int8
//   <name>_blocks, <name>_scales                                           MXFP4; the logical name is the first part's
//   those of packed_parts.h                                                NVFP4, MXFP4, MXFP6, MLX, bitsandbytes NF4 and FP4
// Bits and the GPTQ format come from config.json's quantization_config, bits else from g_idx. Views stay
// valid as long as `file` lives. Throws kInvalidFormat naming the weight when its parts contradict each
// other.
std::vector<PackedWeight> FindPackedWeights(const ModelFile& file);

// What a configuration says of quantised weights and the tensors do not bear out, as a warning: a quantization_config
// whose weights are stored plain.
std::optional<FileWarning> QuantizationWarning(const ModelFileParts& parts);

// The file as a model's code sees it: each packed weight one F32 tensor (`TensorInfo::packed` set), or one of type MXFP4;
// `file` itself if it has none. Nothing is decoded: names, types, shapes and places. Everything that binds tensors to a
// model goes through here. Throws kModelLoad, naming the method and a tensor, for a quantization_config with integers
// beside that none of these ways to pack explains.
std::shared_ptr<const ModelFile> UnpackWeights(std::shared_ptr<const ModelFile> file);

}  // namespace apr
