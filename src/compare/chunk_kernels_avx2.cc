// The kernel of chunk_kernels.h on AVX2.
#include "compare/chunk_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "op/target_region.h"

APR_TARGET_BEGIN(APR_TARGET_AVX2)
namespace apr {
namespace {

struct Sums {
  __m256d part[4];  // lanes 0-3, 4-7, 8-11, 12-15
};
APR_INLINE void Widen(__m256 lo, __m256 hi, __m256d out[4]) {
  out[0] = _mm256_cvtps_pd(_mm256_castps256_ps128(lo));
  out[1] = _mm256_cvtps_pd(_mm256_extractf128_ps(lo, 1));
  out[2] = _mm256_cvtps_pd(_mm256_castps256_ps128(hi));
  out[3] = _mm256_cvtps_pd(_mm256_extractf128_ps(hi, 1));
}
APR_INLINE void AddProduct(Sums& sum, const __m256d x[4], const __m256d y[4]) {
  for (int j = 0; j < 4; ++j) sum.part[j] = _mm256_fmadd_pd(x[j], y[j], sum.part[j]);
}
APR_INLINE double Total(const Sums& sum) {
  const __m256d low = _mm256_add_pd(sum.part[0], sum.part[2]);
  const __m256d high = _mm256_add_pd(sum.part[1], sum.part[3]);
  const __m256d four = _mm256_add_pd(low, high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
APR_INLINE float Largest(__m256 x) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}
APR_INLINE __m256i LiveMask(int live) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(live), lane);
}
APR_INLINE int Count(__m256 mask) { return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(mask))); }

struct Extremes {
  __m256 max_d, max_a, excess;
  int identical;
};
template <bool kExcess>
APR_INLINE void AddExtremes(Extremes& e, __m256 x, __m256 d, __m256 live, float kappa) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256 size = _mm256_andnot_ps(sign, x);
  e.max_d = _mm256_max_ps(e.max_d, d);
  e.max_a = _mm256_max_ps(e.max_a, size);
  if constexpr (kExcess) e.excess = _mm256_max_ps(e.excess, _mm256_sub_ps(d, _mm256_mul_ps(_mm256_set1_ps(kappa), size)));
  e.identical += Count(_mm256_and_ps(live, _mm256_cmp_ps(d, _mm256_setzero_ps(), _CMP_EQ_OQ)));
}

// How many of the differences are below `limit`: only asked for where the largest is not.
APR_INLINE int CountBelow(const float* a, const float* b, int count, float limit) {
  const __m256 sign = _mm256_set1_ps(-0.0f), bound = _mm256_set1_ps(limit);
  int below = 0;
  for (int i = 0; i < count; i += 8) {
    const __m256i live = LiveMask(count - i);
    const __m256 d = _mm256_andnot_ps(sign, _mm256_sub_ps(_mm256_maskload_ps(a + i, live), _mm256_maskload_ps(b + i, live)));
    below += Count(_mm256_and_ps(_mm256_castsi256_ps(live), _mm256_cmp_ps(d, bound, _CMP_LT_OQ)));
  }
  return below;
}

template <bool kExcess>
ChunkSums Compare(const float* a, const float* b, int count, float kappa) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256d none = _mm256_setzero_pd();
  Sums sq{{none, none, none, none}};
  Sums aa = sq, bb = sq, ab = sq;
  const __m256 zero = _mm256_setzero_ps();
  __m256 abs0 = zero, abs1 = zero;
  Extremes e{zero, zero, zero, 0};
  for (int i = 0; i < count; i += 16) {
    const __m256i low = LiveMask(count - i), high = LiveMask(count - i - 8);
    const __m256 x0 = _mm256_maskload_ps(a + i, low), x1 = _mm256_maskload_ps(a + i + 8, high);
    const __m256 y0 = _mm256_maskload_ps(b + i, low), y1 = _mm256_maskload_ps(b + i + 8, high);
    const __m256 d0 = _mm256_andnot_ps(sign, _mm256_sub_ps(x0, y0));
    const __m256 d1 = _mm256_andnot_ps(sign, _mm256_sub_ps(x1, y1));
    __m256d x[4], y[4], d[4];
    Widen(x0, x1, x);
    Widen(y0, y1, y);
    Widen(d0, d1, d);
    abs0 = _mm256_add_ps(abs0, d0);
    abs1 = _mm256_add_ps(abs1, d1);
    AddProduct(sq, d, d);
    AddProduct(aa, x, x);
    AddProduct(bb, y, y);
    AddProduct(ab, x, y);
    AddExtremes<kExcess>(e, x0, d0, _mm256_castsi256_ps(low), kappa);
    AddExtremes<kExcess>(e, x1, d1, _mm256_castsi256_ps(high), kappa);
  }
  ChunkSums out;
  Sums abs;
  Widen(abs0, abs1, abs.part);
  out.abs = Total(abs);
  out.sq = Total(sq);
  out.aa = Total(aa);
  out.bb = Total(bb);
  out.ab = Total(ab);
  out.max_d = Largest(e.max_d);
  out.max_a = Largest(e.max_a);
  out.excess = kExcess ? Largest(e.excess) : out.max_d;
  out.identical = e.identical;
  out.below_small = out.max_d < kSmallDifference ? count : CountBelow(a, b, count, kSmallDifference);
  out.below_medium = out.max_d < kMediumDifference ? count : CountBelow(a, b, count, kMediumDifference);
  return out;
}

// One sum of a QuickChunk: lanes 0 to 7 and 8 to 15.
struct Pair {
  __m256 lo, hi;
};
APR_INLINE float QuickTotal(const Pair& x) {
  const __m256 eight = _mm256_add_ps(x.lo, x.hi);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}
APR_INLINE void Flush(const Pair& x, double* into) {
  __m256d wide[4];
  Widen(x.lo, x.hi, wide);
  for (int j = 0; j < 4; ++j) _mm256_store_pd(into + 4 * j, _mm256_add_pd(_mm256_load_pd(into + 4 * j), wide[j]));
}

struct QuickLanes {
  Pair abs, sq, aa, bb, ab, max_d, max_a;
  int identical, below_small;
};
APR_INLINE void AddQuick(QuickLanes& l, const float* a, const float* b, __m256 Pair::*half) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256 x = _mm256_loadu_ps(a), y = _mm256_loadu_ps(b), d = _mm256_andnot_ps(sign, _mm256_sub_ps(x, y));
  l.abs.*half = _mm256_add_ps(l.abs.*half, d);
  l.sq.*half = _mm256_fmadd_ps(d, d, l.sq.*half);
  l.aa.*half = _mm256_fmadd_ps(x, x, l.aa.*half);
  l.bb.*half = _mm256_fmadd_ps(y, y, l.bb.*half);
  l.ab.*half = _mm256_fmadd_ps(x, y, l.ab.*half);
  l.max_d.*half = _mm256_max_ps(l.max_d.*half, d);
  l.max_a.*half = _mm256_max_ps(l.max_a.*half, _mm256_andnot_ps(sign, x));
  l.identical += Count(_mm256_cmp_ps(d, _mm256_setzero_ps(), _CMP_EQ_OQ));
  l.below_small += Count(_mm256_cmp_ps(d, _mm256_set1_ps(kSmallDifference), _CMP_LT_OQ));
}

}  // namespace

QuickChunk QuickChunkAvx2(const float* a, const float* b, LaneSums& sums) {
  QuickLanes l{};
  for (int i = 0; i < kChunk; i += 16) {
    AddQuick(l, a + i, b + i, &Pair::lo);
    AddQuick(l, a + i + 8, b + i + 8, &Pair::hi);
  }
  QuickChunk out;
  out.sq = QuickTotal(l.sq);
  const float aa = QuickTotal(l.aa), bb = QuickTotal(l.bb);
  out.sound = out.sq >= kQuickLeast && aa >= kQuickLeast && bb >= kQuickLeast && (out.sq + aa) + bb < __builtin_inff();
  if (!out.sound) return out;
  out.max_d = Largest(_mm256_max_ps(l.max_d.lo, l.max_d.hi));
  out.max_a = Largest(_mm256_max_ps(l.max_a.lo, l.max_a.hi));
  out.identical = l.identical;
  out.below_small = l.below_small;
  out.below_medium = out.max_d < kMediumDifference ? kChunk : CountBelow(a, b, kChunk, kMediumDifference);
  Flush(l.abs, sums.abs);
  Flush(l.sq, sums.sq);
  Flush(l.aa, sums.aa);
  Flush(l.bb, sums.bb);
  Flush(l.ab, sums.ab);
  return out;
}

ChunkSums CompareChunkAvx2(const float* a, const float* b, int count, float kappa) {
  return kappa == 0 ? Compare<false>(a, b, count, kappa) : Compare<true>(a, b, count, kappa);
}

}  // namespace apr
APR_TARGET_END
#endif
