// The searching encoders with plain C++: the definition lanes. See search_tile.inc.
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

namespace apr::scalar {
#include "quant/lanes_scalar.h"
#include "quant/search_tile.inc"
#include "quant/search_offset.inc"
#include "quant/search_scale.inc"
#include "quant/search_legacy.inc"
}  // namespace apr::scalar

namespace apr {
const SearchEncoders kScalarSearch{
    scalar::EncodeQ4_0,
    scalar::EncodeQ4_1,
    scalar::EncodeQ5_0,
    scalar::EncodeQ5_1,
    scalar::EncodeQ8_0,
    scalar::EncodeF16,
    scalar::EncodeQ2_K,
    scalar::EncodeQ3_K,
    scalar::EncodeQ4_K,
    scalar::EncodeQ5_K,
    scalar::EncodeQ6_K,
    scalar::EncodeIQ4_NL,
    scalar::EncodeIQ4_XS,
};
}  // namespace apr
