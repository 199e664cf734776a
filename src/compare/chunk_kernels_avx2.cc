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
APR_INLINE double LargestOf(__m256d x) {
  const __m128d two = _mm_max_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_max_sd(two, _mm_unpackhi_pd(two, two)));
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

APR_INLINE __m256i Bits(__m256 a) { return _mm256_castps_si256(a); }
APR_INLINE __m256 Of(__m256i a) { return _mm256_castsi256_ps(a); }
template <RunType kType>
APR_INLINE __m256 LoadRun(const void* run, int at) {
  const auto* half = static_cast<const uint16_t*>(run) + at;
  if constexpr (kType == RunType::kF32) return _mm256_loadu_ps(static_cast<const float*>(run) + at);
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half));
  if constexpr (kType == RunType::kF16) return _mm256_cvtph_ps(halves);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
// What a run has besides its products, in lanes. Numbers that are not negative have bits in the same order.
struct QuickLanes {
  __m256 abs;
  __m256i max_d, min_d;
  __m256i below_small;  // minus the count

  // Eight differences. Taken and given by value: what an address is taken of is stored at every step.
  APR_INLINE QuickLanes With(__m256 d) const {
    const __m256i below = Bits(_mm256_cmp_ps(d, _mm256_set1_ps(kSmallDifference), _CMP_LT_OQ));
    return {_mm256_add_ps(abs, d), _mm256_max_epi32(max_d, Bits(d)), _mm256_min_epi32(min_d, Bits(d)), _mm256_add_epi32(below_small, below)};
  }
  APR_INLINE QuickLanes Joined(const QuickLanes& next) const {
    return {_mm256_add_ps(abs, next.abs), _mm256_max_epi32(max_d, next.max_d), _mm256_min_epi32(min_d, next.min_d),
            _mm256_add_epi32(below_small, next.below_small)};
  }
};
// The largest of sixteen elements of a run and of `most`: sizes, as bits, of eight floats or of sixteen halves.
template <RunType kType>
APR_INLINE __m256i LargestSizes(__m256i most, const void* run, int at) {
  if constexpr (kType == RunType::kF32) {
    const auto* from = static_cast<const float*>(run) + at;
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256 lo = _mm256_andnot_ps(sign, _mm256_loadu_ps(from)), hi = _mm256_andnot_ps(sign, _mm256_loadu_ps(from + 8));
    return _mm256_max_epi32(most, _mm256_max_epi32(Bits(lo), Bits(hi)));
  }
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(run) + at));
  return _mm256_max_epu16(most, _mm256_and_si256(halves, _mm256_set1_epi16(0x7FFF)));
}
// The lanes of LargestSizes as eight of 32 bits.
template <RunType kType>
APR_INLINE __m256i Folded(__m256i most) {
  if constexpr (kType == RunType::kF32) return most;
  return _mm256_max_epi32(_mm256_and_si256(most, _mm256_set1_epi32(0xFFFF)), _mm256_srli_epi32(most, 16));
}
// The elements that such bits are.
template <RunType kType>
APR_INLINE __m256 SizesOf(__m256 bits) {
  if constexpr (kType == RunType::kF32) return bits;
  if constexpr (kType == RunType::kBF16) return Of(_mm256_slli_epi32(Bits(bits), 16));
  const __m256i packed = _mm256_packus_epi32(Bits(bits), Bits(bits));
  return _mm256_cvtph_ps(_mm_unpacklo_epi64(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1)));
}
// The products of a run in sixteen lanes each.
struct Products {
  __m256d aa[4], bb[4], ab[4];

  APR_INLINE void Add(const float* a, const float* b, int j) {
    const __m256d x = Widen(a + 4 * j), y = Widen(b + 4 * j);
    aa[j] = _mm256_fmadd_pd(x, x, aa[j]);
    bb[j] = _mm256_fmadd_pd(y, y, bb[j]);
    ab[j] = _mm256_fmadd_pd(x, y, ab[j]);
  }
  static APR_INLINE __m256d Joined(const __m256d (&of)[4]) { return _mm256_add_pd(_mm256_add_pd(of[0], of[2]), _mm256_add_pd(of[1], of[3])); }
};
// (a - b)^2 where the other sums cancel. Not inlined: rarely needed.
__attribute__((noinline)) double SumSquares(const float* a, const float* b) {
  __m256d lo = _mm256_setzero_pd(), hi = lo;
  for (int i = 0; i < kChunk; i += 8) {
    const __m256d x = _mm256_sub_pd(Widen(a + i), Widen(b + i)), y = _mm256_sub_pd(Widen(a + i + 4), Widen(b + i + 4));
    lo = _mm256_fmadd_pd(x, x, lo);
    hi = _mm256_fmadd_pd(y, y, hi);
  }
  alignas(32) double four[4];
  _mm256_store_pd(four, _mm256_add_pd(lo, hi));
  return (four[0] + four[1]) + (four[2] + four[3]);
}
// The sums of a run whose elements are equal: none, and three times the same.
__attribute__((noinline)) __m256d EqualProducts(const float* a) {
  __m256d sum[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
  for (int i = 0; i < kChunk; i += 16) {
    for (int j = 0; j < 4; ++j) {
      const __m256d x = Widen(a + i + 4 * j);
      sum[j] = _mm256_fmadd_pd(x, x, sum[j]);
    }
  }
  const __m256d pairs = _mm256_hadd_pd(Products::Joined(sum), Products::Joined(sum));
  const __m256d all = _mm256_add_pd(pairs, _mm256_permute2f128_pd(pairs, pairs, 1));
  return _mm256_blend_pd(all, _mm256_setzero_pd(), 1 << kSq);
}
// The four sums of a run, in the order of QuickProduct.
APR_INLINE __m256d QuickProducts(const float* a, const float* b) {
  Products sum{};
#if !defined(__clang__)
#pragma GCC unroll 2
#endif
  for (int i = 0; i < kChunk; i += 16) {
    for (int j = 0; j < 4; ++j) sum.Add(a + i, b + i, j);
  }
  const __m256d first = _mm256_hadd_pd(_mm256_setzero_pd(), Products::Joined(sum.aa));
  const __m256d last = _mm256_hadd_pd(Products::Joined(sum.bb), Products::Joined(sum.ab));
  const __m256d all = _mm256_add_pd(_mm256_permute2f128_pd(first, last, 0x20), _mm256_permute2f128_pd(first, last, 0x31));
  alignas(32) double sums[4];
  _mm256_store_pd(sums, all);
  sums[kSq] = SquaresFrom(sums[kAa], sums[kBb], sums[kAb]);
  if (Cancels(sums)) [[unlikely]] sums[kSq] = SumSquares(a, b);
  return _mm256_blend_pd(all, _mm256_castpd128_pd256(_mm_set_sd(sums[kSq])), 1 << kSq);
}
// Lambdas would not be compiled for the instruction set.
struct Sum {
  APR_INLINE __m256 operator()(__m256 a, __m256 b) const { return _mm256_add_ps(a, b); }
};
struct SumOfInts {
  APR_INLINE __m256 operator()(__m256 a, __m256 b) const { return Of(_mm256_add_epi32(Bits(a), Bits(b))); }
};
struct Most {  // of numbers that are not negative
  APR_INLINE __m256 operator()(__m256 a, __m256 b) const { return Of(_mm256_max_epi32(Bits(a), Bits(b))); }
};
struct Least {
  APR_INLINE __m256 operator()(__m256 a, __m256 b) const { return Of(_mm256_min_epi32(Bits(a), Bits(b))); }
};

// What each lane of eight runs gave becomes what each run gave: halves, quarters, then pairs joined.
template <typename Join>
APR_INLINE __m256 JoinLanes(const __m256 (&run)[kQuickRuns], Join join) {
  __m256 four[4];  // of run j, and of run j + 4
  for (int j = 0; j < 4; ++j) four[j] = join(_mm256_permute2f128_ps(run[j], run[j + 4], 0x20), _mm256_permute2f128_ps(run[j], run[j + 4], 0x31));
  const __m256 low = join(_mm256_shuffle_ps(four[0], four[1], 0x44), _mm256_shuffle_ps(four[0], four[1], 0xEE));
  const __m256 high = join(_mm256_shuffle_ps(four[2], four[3], 0x44), _mm256_shuffle_ps(four[2], four[3], 0xEE));
  return join(_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xDD));
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

// Lanes of up to eight runs.
struct QuickRuns {
  __m256 abs[kQuickRuns], max_d[kQuickRuns], max_a[kQuickRuns], min_d[kQuickRuns];
  __m256i below_small;  // minus the count, of all

  APR_INLINE void Set(int r, const QuickLanes& l, __m256i sizes) {
    abs[r] = l.abs;
    max_d[r] = Of(l.max_d);
    max_a[r] = Of(sizes);
    min_d[r] = Of(l.min_d);
  }
};

// A run as floats: where it lies, or widened into `buffer` while the lanes are added up.
template <RunType kType>
APR_INLINE const float* FloatsOf(const void* run, const float* buffer) {
  return kType == RunType::kF32 ? static_cast<const float*>(run) : buffer;
}

template <RunType kA, RunType kB>
APR_INLINE __m256d AddRun(const void* a, const void* b, int r, QuickRuns& lanes) {
  alignas(32) float widened[kChunk];
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256i none = _mm256_setzero_si256();
  const QuickLanes first{Of(none), none, Bits(_mm256_set1_ps(kSmallDifference)), none};
  QuickLanes lo = first, hi = first;
  __m256i sizes = none;
#if !defined(__clang__)
#pragma GCC unroll 8
#endif
  for (int i = 0; i < kChunk; i += 16) {
    const __m256 x0 = LoadRun<kA>(a, i), y0 = LoadRun<kB>(b, i), x1 = LoadRun<kA>(a, i + 8), y1 = LoadRun<kB>(b, i + 8);
    if constexpr (kA != RunType::kF32) _mm256_store_ps(widened + i, x0), _mm256_store_ps(widened + i + 8, x1);
    if constexpr (kB != RunType::kF32) _mm256_store_ps(widened + i, y0), _mm256_store_ps(widened + i + 8, y1);
    sizes = LargestSizes<kA>(sizes, a, i);
    lo = lo.With(_mm256_andnot_ps(sign, _mm256_sub_ps(x0, y0)));
    hi = hi.With(_mm256_andnot_ps(sign, _mm256_sub_ps(x1, y1)));
  }
  const QuickLanes all = lo.Joined(hi);
  lanes.Set(r, all, Folded<kA>(sizes));
  lanes.below_small = _mm256_add_epi32(lanes.below_small, all.below_small);
  const float *x = FloatsOf<kA>(a, widened), *y = FloatsOf<kB>(b, widened);
  return _mm256_testz_si256(all.max_d, all.max_d) ? EqualProducts(x) : QuickProducts(x, y);
}

// Eight sizes of differences, as QuickTile says.
APR_INLINE double TotalOfRuns(__m256 abs) {
  const __m256d side = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(abs)), _mm256_cvtps_pd(_mm256_extractf128_ps(abs, 1)));
  const __m256d pairs = _mm256_hadd_pd(side, side);
  return _mm_cvtsd_f64(_mm_add_sd(_mm256_castpd256_pd128(pairs), _mm256_extractf128_pd(pairs, 1)));
}

// What has to be counted element by element, of the runs of `which`.
template <RunType kA, RunType kB>
APR_INLINE int CountInRuns(uint32_t which, const void* const* a, const void* const* b, float limit) {
  int below = 0;
  for (; which != 0; which &= which - 1) below += CountQuickly<kA, kB>(a[__builtin_ctz(which)], b[__builtin_ctz(which)], limit);
  return below;
}

template <RunType kA, RunType kB>
void CompareQuickly(const void* const* a, const void* const* b, int runs, QuickTile& out) {
  QuickRuns l;
  const __m256i none = _mm256_setzero_si256();
  l.below_small = none;
  __m256d products = _mm256_setzero_pd();
  for (int r = 0; r < runs; ++r) {
    const __m256d sums = AddRun<kA, kB>(a[r], b[r], r, l);
    products = _mm256_add_pd(products, sums);
    out.sq[r] = static_cast<float>(_mm256_cvtsd_f64(sums));
  }
  for (int r = runs; r < kQuickRuns; ++r) l.Set(r, {Of(none), none, none, none}, none);
  const __m256 max_d = JoinLanes(l.max_d, Most());
  _mm256_store_ps(out.max_d, max_d);
  _mm256_store_ps(out.max_a, SizesOf<kA>(JoinLanes(l.max_a, Most())));
  _mm256_storeu_pd(out.products, products);
  out.abs = TotalOfRuns(JoinLanes(l.abs, Sum()));
  const auto all = (1u << runs) - 1;
  const __m256 sound = _mm256_cmp_ps(max_d, _mm256_set1_ps(kQuickMost), _CMP_LT_OQ);
  out.sound = (static_cast<uint32_t>(_mm256_movemask_ps(sound)) & all) == all;
  if (!out.sound) return;
  const __m256 equal = Of(_mm256_cmpeq_epi32(Bits(JoinLanes(l.min_d, Least())), none));
  const __m256 large = _mm256_cmp_ps(max_d, _mm256_set1_ps(kMediumDifference), _CMP_GE_OQ);
  const uint32_t with_equal = static_cast<uint32_t>(_mm256_movemask_ps(equal)) & all, with_large = static_cast<uint32_t>(_mm256_movemask_ps(large));
  out.identical = CountInRuns<kA, kB>(with_equal, a, b, kSmallestF32);
  out.below_small = CountOf(l.below_small, none);
  out.below_medium = (runs - __builtin_popcount(with_large)) * kChunk + CountInRuns<kA, kB>(with_large, a, b, kMediumDifference);
}

}  // namespace

void SumPartsAvx2(const float* a, const float* b, PartSums (&out)[kParts]) {
  const __m256d sign = _mm256_set1_pd(-0.0), none = _mm256_setzero_pd();
  for (int first = 0; first < kChunk; first += kPart) {
    __m256d sq[2] = {none, none}, max_d[2] = {none, none}, max_a[2] = {none, none};
    for (int i = first; i < first + kPart; i += 8) {
      for (int half = 0; half < 2; ++half) {
        const __m256d x = Widen(a + i + 4 * half), d = _mm256_sub_pd(x, Widen(b + i + 4 * half));
        sq[half] = _mm256_add_pd(sq[half], _mm256_mul_pd(d, d));
        max_d[half] = _mm256_max_pd(_mm256_andnot_pd(sign, d), max_d[half]);  // NaN on the left is passed over
        max_a[half] = _mm256_max_pd(_mm256_andnot_pd(sign, x), max_a[half]);
      }
    }
    alignas(32) double lanes[8];
    _mm256_store_pd(lanes, sq[0]);
    _mm256_store_pd(lanes + 4, sq[1]);
    PartSums& part = out[first / kPart];
    part = {0, LargestOf(_mm256_max_pd(max_d[0], max_d[1])), LargestOf(_mm256_max_pd(max_a[0], max_a[1]))};
    for (const double each : lanes) part.sq += each;
  }
}

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
