// The table of vector_kernels.h on AVX-512.
#include "op/vector_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>

#include "op/target_region.h"

APR_TARGET_BEGIN(APR_TARGET_AVX512)
namespace apr {
namespace {
#include "op/simd_avx512.inc"
#include "op/vector_kernels_x86.inc"
}  // namespace
}  // namespace apr
APR_TARGET_END

namespace apr {

const VectorKernels& VectorKernelsAvx512() {
  static constexpr VectorKernels kTable = {Isa::kAvx512,    SiluRow, GeluTanhRow, SoftcapRow,
                                           ScaleScores, Softmax, NormRow};
  return kTable;
}

}  // namespace apr
#endif
