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
APR_INLINE double Total(const Sums& sum) {
  const __m256d low = _mm256_add_pd(sum.part[0], sum.part[2]);
  const __m256d high = _mm256_add_pd(sum.part[1], sum.part[3]);
  const __m256d four = _mm256_add_pd(low, high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
APR_INLINE __m256d Widen(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
APR_INLINE double TotalOf(__m256 lo, __m256 hi) {
  return Total({{_mm256_cvtps_pd(_mm256_castps256_ps128(lo)), _mm256_cvtps_pd(_mm256_extractf128_ps(lo, 1)),
                 _mm256_cvtps_pd(_mm256_castps256_ps128(hi)), _mm256_cvtps_pd(_mm256_extractf128_ps(hi, 1))}});
}
APR_INLINE float Largest(__m256 x) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}
APR_INLINE int Count(__m256 mask) { return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(mask))); }
// The sum of lanes that are minus counts.
APR_INLINE int CountOf(__m256i low, __m256i high) {
  const __m256i eight = _mm256_add_epi32(low, high);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return -_mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 1)));
}

// Of equal elements: no difference, and three equal sums.
APR_INLINE void AddSquares(const float* a, int padded, ChunkSums& out) {
  const __m256d none = _mm256_setzero_pd();
  Sums aa{{none, none, none, none}};
  for (int i = 0; i < padded; i += 16) {
    for (int j = 0; j < 4; ++j) {
      const __m256d x = Widen(a + i + 4 * j);
      aa.part[j] = _mm256_fmadd_pd(x, x, aa.part[j]);
    }
  }
  out.aa = out.bb = out.ab = Total(aa);
}

// Half of the lanes at a time: their sums fill the registers.
APR_INLINE void AddProducts(const float* a, const float* b, const float* d, int padded, ChunkSums& out) {
  const __m256d none = _mm256_setzero_pd();
  Sums sq{{none, none, none, none}};
  Sums aa = sq, bb = sq, ab = sq;
  for (int half = 0; half < 4; half += 2) {
    for (int i = 4 * half; i < padded; i += 16) {
      for (int j = 0; j < 2; ++j) {
        const __m256d x = Widen(a + i + 4 * j), y = Widen(b + i + 4 * j), z = Widen(d + i + 4 * j);
        sq.part[half + j] = _mm256_fmadd_pd(z, z, sq.part[half + j]);
        aa.part[half + j] = _mm256_fmadd_pd(x, x, aa.part[half + j]);
        bb.part[half + j] = _mm256_fmadd_pd(y, y, bb.part[half + j]);
        ab.part[half + j] = _mm256_fmadd_pd(x, y, ab.part[half + j]);
      }
    }
  }
  out.sq = Total(sq);
  out.aa = Total(aa);
  out.bb = Total(bb);
  out.ab = Total(ab);
}

APR_INLINE int CountBelow(const float* d, int padded, float limit) {
  int below = 0;
  for (int i = 0; i < padded; i += 8) below += Count(_mm256_cmp_ps(_mm256_load_ps(d + i), _mm256_set1_ps(limit), _CMP_LT_OQ));
  return below;
}

// Eight of the sixteen lanes.
struct Extremes {
  __m256 abs, max_d, max_a, excess;
  __m256i identical;  // minus the count
};
template <bool kExcess>
APR_INLINE void AddExtremes(Extremes& e, const float* a, const float* b, float* d, float kappa) {
  const __m256 sign = _mm256_set1_ps(-0.0f), x = _mm256_loadu_ps(a), size = _mm256_andnot_ps(sign, x);
  const __m256 difference = _mm256_andnot_ps(sign, _mm256_sub_ps(x, _mm256_loadu_ps(b)));
  _mm256_store_ps(d, difference);
  e.abs = _mm256_add_ps(e.abs, difference);
  e.max_d = _mm256_max_ps(e.max_d, difference);
  e.max_a = _mm256_max_ps(e.max_a, size);
  if constexpr (kExcess) e.excess = _mm256_max_ps(e.excess, _mm256_sub_ps(difference, _mm256_mul_ps(_mm256_set1_ps(kappa), size)));
  e.identical = _mm256_add_epi32(e.identical, _mm256_cmpeq_epi32(_mm256_castps_si256(difference), _mm256_setzero_si256()));
}

// Elements ahead of those compared: where both sides come straight from memory, arithmetic leaves too few loads on their
// way. Prefetching beyond an end does no harm.
constexpr int kAhead = 1024;

// `a` and `b` have whole vectors, filled up with zeros.
template <bool kExcess>
APR_INLINE ChunkSums Compare(const float* a, const float* b, int padded, float kappa) {
  alignas(32) float differences[kChunk];
  Extremes lo{}, hi{};
  for (int i = 0; i < padded; i += 16) {
    _mm_prefetch(reinterpret_cast<const char*>(a + i + kAhead), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(b + i + kAhead), _MM_HINT_T0);
    AddExtremes<kExcess>(lo, a + i, b + i, differences + i, kappa);
    AddExtremes<kExcess>(hi, a + i + 8, b + i + 8, differences + i + 8, kappa);
  }
  ChunkSums out;
  out.identical = CountOf(lo.identical, hi.identical);
  if (out.identical == padded) AddSquares(a, padded, out);
  else AddProducts(a, b, differences, padded, out);
  out.abs = TotalOf(lo.abs, hi.abs);
  out.max_d = Largest(_mm256_max_ps(lo.max_d, hi.max_d));
  out.max_a = Largest(_mm256_max_ps(lo.max_a, hi.max_a));
  out.excess = kExcess ? Largest(_mm256_max_ps(lo.excess, hi.excess)) : out.max_d;
  out.below_small = out.max_d < kSmallDifference ? padded : CountBelow(differences, padded, kSmallDifference);
  out.below_medium = out.max_d < kMediumDifference ? padded : CountBelow(differences, padded, kMediumDifference);
  return out;
}

// Eight of the sixteen lanes of a QuickChunk: as many sums as the registers hold.
struct QuickLanes {
  __m256 abs, sq, aa, bb, ab;
  __m256i max_d, max_a, min_d;  // of numbers that are not negative: their bits are in the same order
  __m256i below_small;          // minus the count
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
  l.min_d = _mm256_castps_si256(small);
#if !defined(__clang__)
#pragma GCC unroll 1  // all sixteen at once: sums that the end may not need are put off, and everything is spilled
#endif
  for (int i = first; i < kChunk; i += 16) {
    const __m256 x = LoadRun<kA>(a, i), y = LoadRun<kB>(b, i), d = _mm256_andnot_ps(sign, _mm256_sub_ps(x, y));
    l.abs = _mm256_add_ps(l.abs, d);
    l.sq = _mm256_fmadd_ps(d, d, l.sq);
    l.aa = _mm256_fmadd_ps(x, x, l.aa);
    l.bb = _mm256_fmadd_ps(y, y, l.bb);
    l.ab = _mm256_fmadd_ps(x, y, l.ab);
    l.max_d = _mm256_max_epi32(l.max_d, _mm256_castps_si256(d));
    l.max_a = _mm256_max_epi32(l.max_a, _mm256_castps_si256(_mm256_andnot_ps(sign, x)));
    l.min_d = _mm256_min_epi32(l.min_d, _mm256_castps_si256(d));
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
constexpr float kSmallestF32 = 0x1p-149f;
// How many of the differences are below `limit`: only asked for where the extremes do not say.
template <RunType kA, RunType kB>
__attribute__((noinline)) int CountQuickly(const void* a, const void* b, float limit) {
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
  const __m256i equal = _mm256_cmpeq_epi32(_mm256_min_epi32(lo.min_d, hi.min_d), _mm256_setzero_si256());
  if (_mm256_movemask_epi8(equal) != 0) out.identical = CountQuickly<kA, kB>(a, b, kSmallestF32);
  out.below_small = CountOf(lo.below_small, hi.below_small);
  out.below_medium = out.max_d < kMediumDifference ? kChunk : CountQuickly<kA, kB>(a, b, kMediumDifference);
  return out;
}

}  // namespace

using enum RunType;
const QuickKernels kQuickAvx2 = {{{CompareQuickly<kF32, kF32>, CompareQuickly<kF32, kF16>, CompareQuickly<kF32, kBF16>},
                                   {CompareQuickly<kF16, kF32>, nullptr, nullptr},
                                   {CompareQuickly<kBF16, kF32>, nullptr, nullptr}}};

ChunkSums CompareChunkAvx2(const float* a, const float* b, int padded, float kappa) {
  return kappa == 0 ? Compare<false>(a, b, padded, kappa) : Compare<true>(a, b, padded, kappa);
}

}  // namespace apr
APR_TARGET_END
#endif
