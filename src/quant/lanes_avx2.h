// See lanes_scalar.h: the same with AVX2, two registers of eight. Include inside a target region and a
// namespace.

struct F {
  __m256 lo, hi;
};
struct Mask {
  __m256 lo, hi;
};

inline F Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
// Of eight lanes each.
inline F SetHalves(float low, float high) { return {_mm256_set1_ps(low), _mm256_set1_ps(high)}; }
inline F Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void Store(const F& a, float* p) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline F operator+(const F& a, const F& b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline F operator-(const F& a, const F& b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline F operator*(const F& a, const F& b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline F operator/(const F& a, const F& b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
inline F Min(const F& a, const F& b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
inline F Max(const F& a, const F& b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
inline F Abs(const F& a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
inline Mask Less(const F& a, const F& b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
inline Mask operator&(const Mask& a, const Mask& b) {
  return {_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)};
}
inline F Select(const Mask& m, const F& a, const F& b) {
  return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
}
template <int distance>
inline F Swap(const F& a) {
  if constexpr (distance == 1) return {_mm256_permute_ps(a.lo, 0xB1), _mm256_permute_ps(a.hi, 0xB1)};
  if constexpr (distance == 2) return {_mm256_permute_ps(a.lo, 0x4E), _mm256_permute_ps(a.hi, 0x4E)};
  if constexpr (distance == 4) {
    return {_mm256_permute2f128_ps(a.lo, a.lo, 1), _mm256_permute2f128_ps(a.hi, a.hi, 1)};
  }
  if constexpr (distance == 8) return {a.hi, a.lo};
}
inline void StoreBytes(const F& a, uint8_t* p) {
  const __m256i words = _mm256_packs_epi32(_mm256_cvttps_epi32(a.lo), _mm256_cvttps_epi32(a.hi));
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
inline float LargestLane(const F& a) {
  const __m256 eight = _mm256_max_ps(a.lo, a.hi);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
inline void StoreHalves(const F& a, uint16_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
inline __m256i Nearest(__m256 a) {
  const __m256 half = _mm256_or_ps(_mm256_and_ps(a, _mm256_set1_ps(-0.0f)), _mm256_set1_ps(0.49999997f));
  return _mm256_cvttps_epi32(_mm256_add_ps(a, half));
}
inline void StoreNearest(const F& low, const F& high, int8_t* p) {
  const __m256i first = _mm256_packs_epi32(Nearest(low.lo), Nearest(low.hi)), second = _mm256_packs_epi32(Nearest(high.lo), Nearest(high.hi));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), order));
}
// Rows of eight p[0..7], p[stride], ... to columns.
inline void Transpose8(const float* p, int stride, __m256 out[8]) {
  __m256 t[8];
  for (int l = 0; l < 8; l += 4) {
    const __m256 r0 = _mm256_loadu_ps(p + stride * l);
    const __m256 r1 = _mm256_loadu_ps(p + stride * (l + 1));
    const __m256 r2 = _mm256_loadu_ps(p + stride * (l + 2));
    const __m256 r3 = _mm256_loadu_ps(p + stride * (l + 3));
    const __m256 a = _mm256_unpacklo_ps(r0, r1);
    const __m256 b = _mm256_unpackhi_ps(r0, r1);
    const __m256 c = _mm256_unpacklo_ps(r2, r3);
    const __m256 d = _mm256_unpackhi_ps(r2, r3);
    t[l] = _mm256_shuffle_ps(a, c, 0x44);
    t[l + 1] = _mm256_shuffle_ps(a, c, 0xEE);
    t[l + 2] = _mm256_shuffle_ps(b, d, 0x44);
    t[l + 3] = _mm256_shuffle_ps(b, d, 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    out[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
    out[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
  }
}
inline void LoadTransposed(const float* p, int stride, F* out) {
  for (int half = 0; half < 16; half += 8) {
    __m256 lo[8];
    __m256 hi[8];
    Transpose8(p + half, stride, lo);
    Transpose8(p + 8 * stride + half, stride, hi);
    for (int i = 0; i < 8; ++i) out[half + i] = {lo[i], hi[i]};
  }
}
inline F LookUp32(const float table[32], __m256i lo, __m256i hi) {
  return {_mm256_i32gather_ps(table, lo, 4), _mm256_i32gather_ps(table, hi, 4)};
}
inline F NearestIq4Level(const F& a) {
  const F bin = Min(Max(a * Set(0.125f) + Set(16.0f), Set(0.0f)), Set(31.0f));
  const __m256i lo = _mm256_cvttps_epi32(bin.lo);
  const __m256i hi = _mm256_cvttps_epi32(bin.hi);
  const Mask up = Less(LookUp32(kIq4Bins.threshold, lo, hi), a);
  return Select(up, LookUp32(kIq4Bins.above, lo, hi), LookUp32(kIq4Bins.below, lo, hi));
}
// Sixteen int8, f16, bf16 values to f32.
inline F FromBytes(__m128i b) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}
inline F FromBytesAt(const void* p) {
  const auto* eight = static_cast<const uint8_t*>(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(eight)))),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(eight + 8))))};
}
// The low and the high nibbles of sixteen bytes.
struct Nibbles {
  F low, high;
};
inline Nibbles FromNibbles(const uint8_t* p) {
  const __m256i lo = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i hi = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)));
  const __m256i mask = _mm256_set1_epi32(15);
  return {{_mm256_cvtepi32_ps(_mm256_and_si256(lo, mask)), _mm256_cvtepi32_ps(_mm256_and_si256(hi, mask))},
          {_mm256_cvtepi32_ps(_mm256_srli_epi32(lo, 4)), _mm256_cvtepi32_ps(_mm256_srli_epi32(hi, 4))}};
}
// a * b - c of which only the difference may round: a fused one is the same then.
inline F MultiplySubtract(const F& a, const F& b, const F& c) {
  return {_mm256_fmsub_ps(a.lo, b.lo, c.lo), _mm256_fmsub_ps(a.hi, b.hi, c.hi)};
}
inline F FromHalves(const void* p) {
  const auto* halves = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
inline F FromUpperHalves(const void* p) {
  const auto* halves = static_cast<const __m128i*>(p);
  const __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128(halves));
  const __m256i hi = _mm256_cvtepu16_epi32(_mm_loadu_si128(halves + 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}
