// What storing values as a type does to them, found by doing it with this project's encoders.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "compare/chunk_kernels.h"
#include "tensor/dtype.h"

namespace apr {

using Errors = std::array<double, kChunk>;  // squared, per element of a run

// Whether none is NaN or infinite.
bool AllFinite(std::span<const float> values);

// `values` after storing them as `dtype`, as one row; nullopt where they cannot be encoded by themselves.
std::optional<std::vector<float>> StoredAs(DType dtype, std::span<const float> values);

// Of each run (at most kChunk elements), into its `out`: the squared errors of storing it as `dtype`; the type's typical
// error everywhere where that cannot be tried. Nothing beyond the run's elements is written.
void StorageErrors(DType dtype, std::span<const std::span<const float>> runs, std::span<Errors* const> out);

// Root mean square error that storing `values` (rows of `cols`) as `dtype` causes.
double StorageError(DType dtype, std::span<const float> values, int64_t cols);

}  // namespace apr
