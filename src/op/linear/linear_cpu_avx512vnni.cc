// Linear kernels on AVX-512 with VNNI: byte products by vpdpbusd. What has none is shared with plain AVX-512.
#include "op/linear/linear_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "op/target_region.h"

#define APR_LINEAR_VNNI 1

APR_TARGET_BEGIN(APR_TARGET_AVX512VNNI)
namespace apr {
namespace {
#include "op/simd_avx512.inc"
#include "op/linear/linear_cpu_avx512.inc"
#include "op/linear/linear_cpu_x86.inc"
}  // namespace
}  // namespace apr
APR_TARGET_END

namespace apr {

const LinearKernels& LinearKernelsAvx512Vnni() {
  static const LinearKernels kTable = [] {
    LinearKernels table = LinearKernelsAvx512();
    table.isa = Isa::kAvx512Vnni;
    table.fast = FindFast;
    return table;
  }();
  return kTable;
}

}  // namespace apr
#endif
