// The encoders that search for the codes and scales of least squared error: one table per instruction
// set, all with the same bytes as the scalar one.
#pragma once

#include "base/cpu_features.h"
#include "quant/block.h"

namespace apr {

struct SearchEncoders {
  RowEncoder q4_0, q4_1, q5_0, q5_1;  // only with weights
  RowEncoder q8_0, f16;               // by their rules
  RowEncoder q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs;
};

extern const SearchEncoders kScalarSearch;
#if defined(__x86_64__)
extern const SearchEncoders kAvx2Search;
extern const SearchEncoders kAvx512Search;
#endif

// The table for `isa`.
const SearchEncoders& SearchEncodersFor(Isa isa);

}  // namespace apr
