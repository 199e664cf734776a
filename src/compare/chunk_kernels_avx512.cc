// The kernel of chunk_kernels.h on AVX-512.
#include "compare/chunk_kernels.h"

#if defined(__x86_64__)
#if !defined(__clang__)
// GCC's intrinsics begin from undefined registers on purpose (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "op/target_region.h"

APR_TARGET_BEGIN(APR_TARGET_AVX512)
namespace apr {
namespace {

struct Sums {
  __m512d lo, hi;
};
APR_INLINE void AddProduct(Sums& sum, __m512d xl, __m512d xh, __m512d yl, __m512d yh) {
  sum.lo = _mm512_fmadd_pd(xl, yl, sum.lo);
  sum.hi = _mm512_fmadd_pd(xh, yh, sum.hi);
}
APR_INLINE double Total(const Sums& sum) {
  const __m512d half = _mm512_add_pd(sum.lo, sum.hi);
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(half), _mm512_extractf64x4_pd(half, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
APR_INLINE __m512d Low(__m512 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
APR_INLINE __m512d High(__m512 x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }

}  // namespace

ChunkSums CompareChunkAvx512(const float* a, const float* b, int count, float kappa) {
  const __m512 zero = _mm512_setzero_ps();
  const __m512 small = _mm512_set1_ps(0.001f), medium = _mm512_set1_ps(0.01f), part = _mm512_set1_ps(kappa);
  const __m512d none = _mm512_setzero_pd();
  Sums abs{none, none}, sq{none, none}, aa{none, none}, bb{none, none}, ab{none, none};
  __m512 max_d = zero, max_a = zero, excess = zero;
  __mmask16 odd = 0;
  int identical = 0, below_small = 0, below_medium = 0;
  for (int i = 0; i < count; i += 16) {
    const __mmask16 live = count - i >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << (count - i)) - 1);
    const __m512 x = _mm512_maskz_loadu_ps(live, a + i);
    const __m512 y = _mm512_maskz_loadu_ps(live, b + i);
    const __m512 d = _mm512_abs_ps(_mm512_sub_ps(x, y));
    const __m512 size = _mm512_abs_ps(x);
    const __m512d xl = Low(x), xh = High(x), yl = Low(y), yh = High(y), dl = Low(d), dh = High(d);
    abs.lo = _mm512_add_pd(abs.lo, dl);
    abs.hi = _mm512_add_pd(abs.hi, dh);
    AddProduct(sq, dl, dh, dl, dh);
    AddProduct(aa, xl, xh, xl, xh);
    AddProduct(bb, yl, yh, yl, yh);
    AddProduct(ab, xl, xh, yl, yh);
    max_d = _mm512_max_ps(max_d, d);
    max_a = _mm512_max_ps(max_a, size);
    excess = _mm512_max_ps(excess, _mm512_sub_ps(d, _mm512_mul_ps(part, size)));
    // A difference of finite values is finite or overflows; one with NaN or infinity never is.
    odd = _kor_mask16(odd, _mm512_fpclass_ps_mask(d, 0x99));
    identical += __builtin_popcount(_mm512_mask_cmp_ps_mask(live, d, zero, _CMP_EQ_OQ));
    below_small += __builtin_popcount(_mm512_mask_cmp_ps_mask(live, d, small, _CMP_LT_OQ));
    below_medium += __builtin_popcount(_mm512_mask_cmp_ps_mask(live, d, medium, _CMP_LT_OQ));
  }
  ChunkSums out;
  out.abs = Total(abs);
  out.sq = Total(sq);
  out.aa = Total(aa);
  out.bb = Total(bb);
  out.ab = Total(ab);
  out.max_d = _mm512_reduce_max_ps(max_d);
  out.max_a = _mm512_reduce_max_ps(max_a);
  out.excess = _mm512_reduce_max_ps(excess);
  out.identical = identical;
  out.below_small = below_small;
  out.below_medium = below_medium;
  out.finite = odd == 0;
  return out;
}

}  // namespace apr
APR_TARGET_END
#endif
