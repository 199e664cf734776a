// Rows of a key/value cache, written and read whatever type they are stored in.
#pragma once

#include <cstdint>

#include "op/context.h"

namespace apr {

// Bytes of a row of `width` elements as `dtype`, the row padded to whole blocks.
int64_t CacheRowBytes(DType dtype, int64_t width);

// Row `position` of a head: key [k_dim] and value [v_dim]. Every row is encoded by itself, so what is stored does
// not depend on what came with it. Throws Error(kInference) for a value that the type cannot hold.
template <typename Real>
void WriteKvRow(const KvCache<Real>& cache, int64_t head, int64_t position, const Real* key, const Real* value);

// Rows [first, first + count) of a packed cache, `stride` elements apart in `out`.
template <typename Real>
void ReadPackedKeys(const KvCache<Real>& cache, int64_t head, int64_t first, int64_t count, int64_t stride, Real* out);
template <typename Real>
void ReadPackedValues(const KvCache<Real>& cache, int64_t head, int64_t first, int64_t count, int64_t stride, Real* out);

}  // namespace apr
