// What the writers of this folder share.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "format/model_writer.h"

namespace apr {

// Throws kValidationFailed naming the file and the tensor or key.
[[noreturn]] void RefuseToWrite(const std::string& file, const std::string& key, std::string message);

// Names are well-formed, at most `max_bytes` long and different from each other.
void CheckNamesToWrite(const std::vector<TensorToWrite>& tensors, const std::string& file,
                       uint64_t max_bytes);

// Asks `tensor` for its bytes and passes them to `sink`; their number must be `expected`.
void StreamTensor(const TensorToWrite& tensor, uint64_t expected, const ByteSink& sink);

}  // namespace apr
