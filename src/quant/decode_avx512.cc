// The vector decoders with AVX-512. See decode_simd.inc.
#include "quant/decode_simd.h"

#if defined(__x86_64__)
#include <cmath>

#include "quant/intrinsics.h"
#include "quant/iq.h"
#include "quant/mx.h"
#include "quant/plain.h"
#include "quant/q_k.h"
#include "quant/q_legacy.h"
#include "quant/search_params.h"

#include "quant/target_avx512.h"
namespace apr::decode_avx512 {
#include "quant/lanes_avx512.h"
#include "quant/decode_simd.inc"
#include "quant/decode_wide.inc"
}  // namespace apr::decode_avx512
#include "quant/target_end.h"

namespace apr {
RowDecoder Avx512DecoderOf(DType dtype) {
  if (dtype == DType::kQ4_K) return decode_avx512::DecodeQ4_KWide;
  if (dtype == DType::kQ6_K) return decode_avx512::DecodeQ6_KWide;
  return decode_avx512::DecoderOf(dtype);
}
}  // namespace apr
#endif
