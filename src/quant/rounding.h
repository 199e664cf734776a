// What the encoders share: block maxima and storing a scale.
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace apr {

// max |x| of n values (0 for none).
float LargestMagnitude(const float* x, int n);

// 1 / scale, or 0 where that is no finite number (scale 0 or below 2^-128): codes of such a block
// are those of zeros, and the stored scale is 0.
float InverseOrZero(float scale);

// Stores `scale` rounded to f16. Throws Error(kValidationFailed) if it rounds to infinity (the
// values are too large for the type) or is not a number.
void SetScale(float scale, PackedF16* out);

}  // namespace apr
