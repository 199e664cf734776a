// The searching encoders with AVX2 lanes. See search_tile.inc.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "base/float16.h"
#include "quant/block.h"
#include "quant/iq.h"
#include "quant/q_k.h"
#include "quant/q_legacy.h"
#include "quant/rounding.h"
#include "quant/search.h"
#include "quant/search_params.h"

#if defined(__x86_64__)
#include "quant/intrinsics.h"

#include "quant/target_avx2.h"
namespace apr::avx2 {
#include "quant/lanes_avx2.h"
#include "quant/search_tile.inc"
#include "quant/search_offset.inc"
#include "quant/search_scale.inc"
#include "quant/search_legacy.inc"
}  // namespace apr::avx2
#include "quant/target_end.h"

namespace apr {
const SearchEncoders kAvx2Search{
    avx2::EncodeQ4_0,
    avx2::EncodeQ4_1,
    avx2::EncodeQ5_0,
    avx2::EncodeQ5_1,
    avx2::EncodeQ8_0,
    avx2::EncodeF16,
    avx2::EncodeQ2_K,
    avx2::EncodeQ3_K,
    avx2::EncodeQ4_K,
    avx2::EncodeQ5_K,
    avx2::EncodeQ6_K,
    avx2::EncodeIQ4_NL,
    avx2::EncodeIQ4_XS,
};
}  // namespace apr
#endif
