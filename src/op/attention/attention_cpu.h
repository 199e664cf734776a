// The f32 side of attention, and what both sides share: appending to the cache.
#pragma once

#include <memory>

#include "op/attention/attention.h"
#include "op/attention/kv_rows.h"
#include "op/context.h"

namespace apr {

std::unique_ptr<CpuState> PrepareAttentionCpu(const CpuPrepareContext& context);
void AttentionCpu(const OpContext<float>& context);

// Copies this batch's keys and values behind those of earlier tokens.
template <typename Real>
void AppendToCaches(const AttentionAttributes& a, const OpContext<Real>& context) {
  for (size_t i = 0; i < context.batch.sequences.size(); ++i) {
    const SequenceSpan& span = context.batch.sequences[i];
    const KvCache<Real>& cache = context.caches[i];
    for (int64_t t = 0; t < span.count; ++t) {
      const int64_t row = span.first + t;
      for (int64_t h = 0; h < a.kv_heads; ++h) {
        const int64_t head = row * a.kv_heads + h;
        WriteKvRow(cache, h, span.position + t, context.inputs[1].data() + head * a.k_dim,
                   context.inputs[2].data() + head * a.v_dim);
      }
    }
  }
}

}  // namespace apr
