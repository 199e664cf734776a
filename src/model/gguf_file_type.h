// general.file_type of a GGUF: the name of the mix of element types.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "format/model_writer.h"

namespace apr {

// Number of a mix by llama.cpp's name (include/llama.h, llama_ftype): "Q4_K_M"; nullopt if unknown.
std::optional<uint32_t> GgufFileTypeOf(std::string_view mix);

// The mix that most matrices' elements belong to.
uint32_t GgufFileType(const std::vector<TensorToWrite>& tensors);
bool IsQuantisedGguf(const std::vector<TensorToWrite>& tensors);

}  // namespace apr
