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

// Eight of the sixteen lanes of a QuickChunk: as many sums as the registers hold.
struct QuickLanes {
  __m256 abs, sq, aa, bb, ab;
  __m256i max_d, max_a;            // of numbers that are not negative: their bits are in the same order
  __m256i identical, below_small;  // minus the counts
};
template <RunType kType>
APR_INLINE __m256 LoadRun(const void* run, int at) {
  const auto* half = static_cast<const uint16_t*>(run) + at;
  if constexpr (kType == RunType::kF32) return _mm256_loadu_ps(static_cast<const float*>(run) + at);
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half));
  if constexpr (kType == RunType::kF16) return _mm256_cvtph_ps(halves);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
template <RunType kA, RunType kB>
APR_INLINE QuickLanes AddQuick(const void* a, const void* b, int first) {
  const __m256 sign = _mm256_set1_ps(-0.0f), small = _mm256_set1_ps(kSmallDifference);
  QuickLanes l{};
  for (int i = first; i < kChunk; i += 16) {
    const __m256 x = LoadRun<kA>(a, i), y = LoadRun<kB>(b, i), d = _mm256_andnot_ps(sign, _mm256_sub_ps(x, y));
    l.abs = _mm256_add_ps(l.abs, d);
    l.sq = _mm256_fmadd_ps(d, d, l.sq);
    l.aa = _mm256_fmadd_ps(x, x, l.aa);
    l.bb = _mm256_fmadd_ps(y, y, l.bb);
    l.ab = _mm256_fmadd_ps(x, y, l.ab);
    l.max_d = _mm256_max_epi32(l.max_d, _mm256_castps_si256(d));
    l.max_a = _mm256_max_epi32(l.max_a, _mm256_castps_si256(_mm256_andnot_ps(sign, x)));
    l.identical = _mm256_add_epi32(l.identical, _mm256_cmpeq_epi32(_mm256_castps_si256(d), _mm256_setzero_si256()));
    l.below_small = _mm256_add_epi32(l.below_small, _mm256_castps_si256(_mm256_cmp_ps(d, small, _CMP_LT_OQ)));
  }
  return l;
}
APR_INLINE float QuickTotal(__m256 low, __m256 high) {
  const __m256 eight = _mm256_add_ps(low, high);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}
APR_INLINE int QuickCount(__m256i low, __m256i high) {
  const __m256i eight = _mm256_add_epi32(low, high);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return -_mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 1)));
}
// How many of the differences are below `limit`: only asked for where the largest is not.
template <RunType kA, RunType kB>
APR_INLINE int CountQuickly(const void* a, const void* b, float limit) {
  const __m256 sign = _mm256_set1_ps(-0.0f), bound = _mm256_set1_ps(limit);
  int below = 0;
  for (int i = 0; i < kChunk; i += 8) {
    const __m256 d = _mm256_andnot_ps(sign, _mm256_sub_ps(LoadRun<kA>(a, i), LoadRun<kB>(b, i)));
    below += Count(_mm256_cmp_ps(d, bound, _CMP_LT_OQ));
  }
  return below;
}

template <RunType kA, RunType kB>
QuickChunk CompareQuickly(const void* a, const void* b) {
  const QuickLanes lo = AddQuick<kA, kB>(a, b, 0), hi = AddQuick<kA, kB>(a, b, 8);
  QuickChunk out;
  out.sq = QuickTotal(lo.sq, hi.sq);
  out.aa = QuickTotal(lo.aa, hi.aa);
  out.bb = QuickTotal(lo.bb, hi.bb);
  out.sound = out.sq >= kQuickLeast && out.aa >= kQuickLeast && out.bb >= kQuickLeast && (out.sq + out.aa) + out.bb < __builtin_inff();
  if (!out.sound) return out;
  out.abs = QuickTotal(lo.abs, hi.abs);
  out.ab = QuickTotal(lo.ab, hi.ab);
  out.max_d = Largest(_mm256_castsi256_ps(_mm256_max_epi32(lo.max_d, hi.max_d)));
  out.max_a = Largest(_mm256_castsi256_ps(_mm256_max_epi32(lo.max_a, hi.max_a)));
  out.identical = QuickCount(lo.identical, hi.identical);
  out.below_small = QuickCount(lo.below_small, hi.below_small);
  out.below_medium = out.max_d < kMediumDifference ? kChunk : CountQuickly<kA, kB>(a, b, kMediumDifference);
  return out;
}

}  // namespace

using enum RunType;
const QuickKernels kQuickAvx2 = {{{CompareQuickly<kF32, kF32>, CompareQuickly<kF32, kF16>, CompareQuickly<kF32, kBF16>},
                                   {CompareQuickly<kF16, kF32>, nullptr, nullptr},
                                   {CompareQuickly<kBF16, kF32>, nullptr, nullptr}}};

ChunkSums CompareChunkAvx2(const float* a, const float* b, int count, float kappa) {
  return kappa == 0 ? Compare<false>(a, b, count, kappa) : Compare<true>(a, b, count, kappa);
}

}  // namespace apr
APR_TARGET_END
#endif
