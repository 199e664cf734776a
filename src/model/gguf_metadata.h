// What a GGUF says about a model beside its tensors: the architecture's keys, from the resolved
// configuration, so that any container can be the source.
#pragma once

#include <string>
#include <vector>

#include "format/model_writer.h"
#include "model/model.h"

namespace apr {

struct GgufDescription {
  MetaBuilder metadata;                     // general.architecture, <architecture>.*, apr.*
  std::vector<TensorToWrite> rope_tensors;  // rope_freqs.weight, rope_factors_{long,short}.weight
  std::vector<std::string> warnings;        // what other engines will not read, or not as meant
};

// `tensors`: those that will be written, by their GGUF names. What the standard keys cannot say is
// written under apr.<Hugging Face key>; then the whole is resolved again and compared with the model.
// Throws kModelLoad naming the field that no key can express, or when GGUF has no name for the
// architecture.
GgufDescription DescribeForGguf(const Model& model, const std::vector<TensorToWrite>& tensors);

}  // namespace apr
