// Rules that hold for the tensors of every container.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "format/model_file.h"

namespace apr {

// What is wrong with a tensor name or metadata key as text: a NUL byte, bytes that are no UTF-8, a
// way out of a folder (a tool that writes one file per tensor must not be led astray). nullopt: fine.
std::optional<std::string> NameProblem(std::string_view name);

// A name fit for an error message: at most 120 bytes, control characters and broken UTF-8 as \xNN.
std::string Printable(std::string_view name);

// Throws kInvalidFormat if two tensors of the same file share a byte. `tensors`: of one file.
void CheckNoOverlap(std::span<const TensorInfo> tensors, const std::string& file);

}  // namespace apr
