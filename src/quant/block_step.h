// How far apart the values lie that an element of a block can have.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace apr {

// The distance from the value of element [row, col] to the nearest other code of its block: rounding moved it by half of
// that at most. Where codes are not evenly spread, the larger of the distances to its two neighbours; for types whose
// elements share codes, what their typical error amounts to as such a distance. `view` may be of a type that lies flat
// (APR_Q4, APR_Q8). 0 for types without blocks.
float StepAt(const TensorView& view, int64_t row, int64_t col);

}  // namespace apr
