// What finding a packed weight's parts takes, shared by the files that know one family of packings each.
#pragma once

#include <optional>
#include <string>

#include "base/json_fwd.h"
#include "format/packed_weights.h"

namespace apr {

// Collects the parts of one weight.
class PartFinder {
 public:
  PartFinder(const ModelFile& file, std::string name, const char* scheme);

  std::optional<TensorView> Part(const std::string& name);  // noted as one of the weight's
  TensorView Need(const std::string& name);                 // throws Error(kInvalidFormat) if it is absent

  // The weight of these parts.
  template <typename Parts>
  PackedWeight Weight(Shape shape, Parts parts) && {
    weight_.shape = shape;
    weight_.data = std::move(parts);
    return std::move(weight_);
  }

 private:
  const ModelFile& file_;
  PackedWeight weight_;
};

// An object, a text or an integer of a JSON object; `settings` may be null.
const Json* ObjectOf(const Json* settings, const char* key);
std::optional<std::string> TextOf(const Json* settings, const char* key);
std::optional<int64_t> IntegerOf(const Json* settings, const char* key);

// Packings with a table of codes (packed_codes.h). nullopt: the tensors beside `module`.weight are not of that family.
//   MLX: .weight (U32), .scales [, .biases]; bits and mode from config.json's "quantization", one for all or by module
//   bitsandbytes: .weight (U8), .weight.absmax, .weight.quant_map, .weight.quant_state.bitsandbytes__nf4 or __fp4
//                 [, .weight.nested_absmax, .weight.nested_quant_map]
//   ModelOpt NVFP4: .weight (U8), .weight_scale (F8_E4M3), .weight_scale_2
std::optional<PackedWeight> FindMlx(const ModelFile& file, const std::string& module);
std::optional<PackedWeight> FindBitsAndBytes(const ModelFile& file, const std::string& module);
std::optional<PackedWeight> FindModelOpt(const ModelFile& file, const std::string& module);
// compressed-tensors NVFP4, MXFP4 and MXFP6: .weight_packed (U8), .weight_scale [, .weight_global_scale].
PackedWeight FindFloatCodes(const ModelFile& file, const std::string& module);

}  // namespace apr
