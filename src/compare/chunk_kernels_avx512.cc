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
APR_INLINE double Total(const Sums& sum) {
  const __m512d half = _mm512_add_pd(sum.lo, sum.hi);
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(half), _mm512_extractf64x4_pd(half, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
APR_INLINE __m512d Low(__m512 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
APR_INLINE __m512d High(__m512 x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }
// Sixteen f32 elements of memory as f64: a conversion straight from memory spares the shuffle of one from a register.
struct Wide {
  __m512d lo, hi;
};
APR_INLINE Wide Widen(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p)), _mm512_cvtps_pd(_mm256_loadu_ps(p + 8))}; }
APR_INLINE void AddProduct(Sums& sum, const Wide& x, const Wide& y) {
  sum.lo = _mm512_fmadd_pd(x.lo, y.lo, sum.lo);
  sum.hi = _mm512_fmadd_pd(x.hi, y.hi, sum.hi);
}

// Of equal elements: no difference, and three equal sums.
APR_INLINE void AddSquares(const float* a, int padded, ChunkSums& out) {
  Sums aa{_mm512_setzero_pd(), _mm512_setzero_pd()};
  for (int i = 0; i < padded; i += 16) {
    const Wide x = Widen(a + i);
    AddProduct(aa, x, x);
  }
  out.aa = out.bb = out.ab = Total(aa);
}

// `a`, `b` and `d` have whole vectors, filled up with zeros.
APR_INLINE void AddProducts(const float* a, const float* b, const float* d, int padded, ChunkSums& out) {
  const __m512d none = _mm512_setzero_pd();
  Sums sq{none, none}, aa{none, none}, bb{none, none}, ab{none, none};
  for (int i = 0; i < padded; i += 16) {
    const Wide x = Widen(a + i), y = Widen(b + i), z = Widen(d + i);
    AddProduct(sq, z, z);
    AddProduct(aa, x, x);
    AddProduct(bb, y, y);
    AddProduct(ab, x, y);
  }
  out.sq = Total(sq);
  out.aa = Total(aa);
  out.bb = Total(bb);
  out.ab = Total(ab);
}

APR_INLINE int CountBelow(const float* d, int padded, float limit) {
  int below = 0;
  for (int i = 0; i < padded; i += 16) below += __builtin_popcount(_mm512_cmp_ps_mask(_mm512_load_ps(d + i), _mm512_set1_ps(limit), _CMP_LT_OQ));
  return below;
}

// Elements ahead of those compared: where both sides come straight from memory, arithmetic leaves too few loads on their
// way. Prefetching beyond an end does no harm.
constexpr int kAhead = 1024;

template <bool kExcess>
APR_INLINE ChunkSums Compare(const float* a, const float* b, int padded, float kappa) {
  alignas(64) float differences[kChunk];
  const __m512 zero = _mm512_setzero_ps(), part = _mm512_set1_ps(kappa);
  __m512 abs = zero, max_d = zero, max_a = zero, excess = zero;
  int identical = 0;
  for (int i = 0; i < padded; i += 16) {
    _mm_prefetch(reinterpret_cast<const char*>(a + i + kAhead), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(b + i + kAhead), _MM_HINT_T0);
    const __m512 x = _mm512_loadu_ps(a + i);
    const __m512 d = _mm512_abs_ps(_mm512_sub_ps(x, _mm512_loadu_ps(b + i)));
    const __m512 size = _mm512_abs_ps(x);
    _mm512_store_ps(differences + i, d);
    abs = _mm512_add_ps(abs, d);
    max_d = _mm512_max_ps(max_d, d);
    max_a = _mm512_max_ps(max_a, size);
    if constexpr (kExcess) excess = _mm512_max_ps(excess, _mm512_sub_ps(d, _mm512_mul_ps(part, size)));
    identical += __builtin_popcount(_mm512_cmp_ps_mask(d, zero, _CMP_EQ_OQ));
  }
  ChunkSums out;
  if (identical == padded) AddSquares(a, padded, out);
  else AddProducts(a, b, differences, padded, out);
  out.abs = Total({Low(abs), High(abs)});
  out.max_d = _mm512_reduce_max_ps(max_d);
  out.max_a = _mm512_reduce_max_ps(max_a);
  out.excess = kExcess ? _mm512_reduce_max_ps(excess) : out.max_d;
  out.identical = identical;
  out.below_small = out.max_d < kSmallDifference ? padded : CountBelow(differences, padded, kSmallDifference);
  out.below_medium = out.max_d < kMediumDifference ? padded : CountBelow(differences, padded, kMediumDifference);
  return out;
}

}  // namespace

ChunkSums CompareChunkAvx512(const float* a, const float* b, int padded, float kappa) {
  return kappa == 0 ? Compare<false>(a, b, padded, kappa) : Compare<true>(a, b, padded, kappa);
}

}  // namespace apr
APR_TARGET_END
#endif
