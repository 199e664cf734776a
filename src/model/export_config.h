// A Hugging Face config.json from a resolved configuration.
#pragma once

#include "base/json_fwd.h"
#include "model/model.h"

namespace apr {

// The folder's own config.json where the model came from one (storage type replaced); else written from
// what was resolved. Throws kModelLoad, naming the field, for what config.json cannot express.
// `torch_dtype`: "float32", "bfloat16" or "float16".
Json HfConfig(const Model& model, const std::string& torch_dtype);

// transformers' name of a non-linearity.
std::string HfActivation(const std::string& kind);
// Gemma's query_pre_attn_scalar: scores are multiplied by 1 / sqrt of it. A whole number where one gives
// the scale.
double QueryScalar(double attention_scale);

}  // namespace apr
