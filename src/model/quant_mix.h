// Which element type each tensor of a quantised model gets: one type for all, or llama.cpp's mixes by
// name, with the exceptions that they make by a tensor's role, its layer and the shape of its rows.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "model/config.h"
#include "tensor/tensor.h"

namespace apr {

struct TypeOverride {
  std::string pattern;  // ECMAScript, searched for in the GGUF name
  std::regex regex;
  DType dtype;
};
// "REGEX=TYPE"; throws kUsage.
TypeOverride ParseTypeOverride(const std::string& text);

struct MixRequest {
  std::string mix;  // "Q4_K_M", "Q8_0", "F16", also "int8", "int4", "fp16", "q4k"; any case
  std::vector<TypeOverride> overrides;  // the first that matches decides
  bool has_importance = false;
  bool pads_rows = false;  // the container fills rows up to whole blocks (.apr): no type has to give way
};

// Names of the mixes, as MixRequest::mix takes them.
std::vector<std::string> MixNames();
// The canonical spelling; throws kUsage naming those there are.
std::string MixName(const std::string& text);

struct MixTensor {
  std::string name;  // in GGUF
  Shape shape;
  DType stored = DType::kF32;
};

struct PlannedType {
  DType dtype = DType::kF32;
  bool fallback = false;  // rows are no whole blocks of the type that was meant
};

// One type per tensor, by name. `config` may be null (a GGUF of no known architecture): then the number of
// layers is that of the names. Source of the rules: llama.cpp src/llama-quant.cpp, llama_tensor_get_type.
// Throws kValidationFailed when a type needs importance that is not given (IQ types below 3 bits).
std::map<std::string, PlannedType> PlanMix(const MixRequest& request, const std::vector<MixTensor>& tensors, const ModelConfig* config);

}  // namespace apr
