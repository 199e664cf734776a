// See rounding.h.
#include "quant/rounding.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace apr {

float LargestMagnitude(const float* x, int n) {
  float largest = 0.0f;
  for (int i = 0; i < n; ++i) largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
  return largest;
}

float InverseOrZero(float scale) {
  const float inverse = 1.0f / scale;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

void SetScale(float scale, PackedF16* out) {
  const uint16_t bits = F32ToF16(scale);
  if ((bits & 0x7C00u) == 0x7C00u) {
    throw Error(
        ErrorCode::kValidationFailed,
        fmt::format("values too large to quantise: a block scale of {} does not fit f16", scale));
  }
  out->set_bits(bits);
}

}  // namespace apr
