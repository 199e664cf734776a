// The searching encoders with AVX-512 lanes. See search_tile.inc.
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

#include "quant/target_avx512.h"
namespace apr::avx512 {
#include "quant/lanes_avx512.h"
#include "quant/search_tile.inc"
#include "quant/search_offset.inc"
#include "quant/search_scale.inc"
#include "quant/search_legacy.inc"
}  // namespace apr::avx512
#include "quant/target_end.h"

namespace apr {
const SearchEncoders kAvx512Search{
    avx512::EncodeQ4_0,
    avx512::EncodeQ4_1,
    avx512::EncodeQ5_0,
    avx512::EncodeQ5_1,
    avx512::EncodeQ8_0,
    avx512::EncodeF16,
    avx512::EncodeQ2_K,
    avx512::EncodeQ3_K,
    avx512::EncodeQ4_K,
    avx512::EncodeQ5_K,
    avx512::EncodeQ6_K,
    avx512::EncodeIQ4_NL,
    avx512::EncodeIQ4_XS,
};
}  // namespace apr
#endif
