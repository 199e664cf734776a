// See search.h.
#include "quant/search.h"

namespace apr {

const SearchEncoders& SearchEncodersFor(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return kAvx512Search;
  if (isa >= Isa::kAvx2) return kAvx2Search;
#endif
  static_cast<void>(isa);
  return kScalarSearch;
}

}  // namespace apr
