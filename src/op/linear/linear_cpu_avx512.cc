// Linear kernels on AVX-512 without VNNI: byte products by vpmaddubsw and vpmaddwd.
#include "op/linear/linear_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "op/linear/linear_quantize.h"
#include "op/target_region.h"

#define APR_LINEAR_VNNI 0

APR_TARGET_BEGIN(APR_TARGET_AVX512)
namespace apr {
namespace {
#include "op/simd_avx512.inc"
#include "op/linear/linear_cpu_avx512.inc"
#include "op/linear/linear_cpu_x86.inc"
#include "op/linear/linear_cpu_x86_floats.inc"
}  // namespace
}  // namespace apr
APR_TARGET_END

namespace apr {

const LinearKernels& LinearKernelsAvx512() {
  static constexpr LinearKernels kTable = {Isa::kAvx512, kRows, FindUnpackF32, DotFloats, DotRows, FindFast, Quantize};
  return kTable;
}

}  // namespace apr
#endif
