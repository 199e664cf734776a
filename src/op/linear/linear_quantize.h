// What every table's activation quantiser shares, so that all give the same codes: the choice of the
// scale, and where sums go.
#pragma once

#include <cstdint>

#include "op/linear/linear_kernels.h"
#include "op/target_region.h"

namespace apr {

// Blocks whose largest magnitude is below this are zero: its reciprocal would leave f32.
inline constexpr float kSmallestActivation = 1e-30f;

// From the bits of the block's largest magnitude (the sign bit clear). A NaN or an infinity in the
// block makes the scale NaN, so that it reaches every output.
static APR_INLINE void ActivationScale(int32_t largest_bits, float* scale, float* inverse) {
  float largest;
  __builtin_memcpy(&largest, &largest_bits, sizeof largest);
  if (largest_bits >= 0x7F800000) {
    *scale = __builtin_nanf("");
    *inverse = 0;
  } else if (largest < kSmallestActivation) {
    *scale = 0;
    *inverse = 0;
  } else {
    *scale = largest / 127;
    *inverse = 127 / largest;
  }
}

// sums: of the codes of columns [k, k + 16) and [k + 16, k + 32) of token t of the tile.
static APR_INLINE void StoreBlockSums(const QuantizeArgs& a, const QuantTile& tile, int64_t k, int t,
                                      float scale, const int32_t sums[2]) {
  const int64_t at = k / 32 * a.tokens + t;
  tile.scale[at] = scale;
  if (a.kind == CodeKind::kOffset) {
    tile.correction[at] = -a.offset * (sums[0] + sums[1]);
  } else if (a.kind == CodeKind::kMinimum) {
    tile.weighted_sum[at] = scale * static_cast<float>(sums[0] + sums[1]);
  } else {
    tile.correction[k / 16 * a.tokens + t] = -a.offset * sums[0];
    tile.correction[(k / 16 + 1) * a.tokens + t] = -a.offset * sums[1];
  }
}

}  // namespace apr
