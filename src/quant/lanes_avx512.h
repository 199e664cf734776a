// See lanes_scalar.h: the same with AVX-512. Include inside a target region and a namespace.

struct F {
  __m512 v;
};
struct Mask {
  __mmask16 v;
};

inline F Set(float x) { return {_mm512_set1_ps(x)}; }
// Of eight lanes each.
inline F SetHalves(float low, float high) { return {_mm512_mask_blend_ps(0xFF00, _mm512_set1_ps(low), _mm512_set1_ps(high))}; }
inline F Load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void Store(const F& a, float* p) { _mm512_storeu_ps(p, a.v); }
inline F operator+(const F& a, const F& b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(const F& a, const F& b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(const F& a, const F& b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F operator/(const F& a, const F& b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F Min(const F& a, const F& b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F Max(const F& a, const F& b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F Abs(const F& a) { return {_mm512_abs_ps(a.v)}; }
inline Mask Less(const F& a, const F& b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask operator&(const Mask& a, const Mask& b) { return {static_cast<__mmask16>(a.v & b.v)}; }
inline F Select(const Mask& m, const F& a, const F& b) {
  return {_mm512_mask_blend_ps(m.v, b.v, a.v)};
}
template <int distance>
inline F Swap(const F& a) {
  if constexpr (distance == 1) return {_mm512_permute_ps(a.v, 0xB1)};
  if constexpr (distance == 2) return {_mm512_permute_ps(a.v, 0x4E)};
  if constexpr (distance == 4) return {_mm512_shuffle_f32x4(a.v, a.v, 0xB1)};
  if constexpr (distance == 8) return {_mm512_shuffle_f32x4(a.v, a.v, 0x4E)};
}
inline void StoreBytes(const F& a, uint8_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(a.v)));
}
inline void LoadTransposed(const float* p, int stride, F* out) {
  __m512 r[16];
  __m512 t[16];
  for (int l = 0; l < 16; ++l) r[l] = _mm512_loadu_ps(p + stride * l);
  for (int l = 0; l < 16; l += 4) {  // 4 x 4 blocks within each 128-bit part
    const __m512 a = _mm512_unpacklo_ps(r[l], r[l + 1]);
    const __m512 b = _mm512_unpackhi_ps(r[l], r[l + 1]);
    const __m512 c = _mm512_unpacklo_ps(r[l + 2], r[l + 3]);
    const __m512 d = _mm512_unpackhi_ps(r[l + 2], r[l + 3]);
    t[l] = _mm512_shuffle_ps(a, c, 0x44);
    t[l + 1] = _mm512_shuffle_ps(a, c, 0xEE);
    t[l + 2] = _mm512_shuffle_ps(b, d, 0x44);
    t[l + 3] = _mm512_shuffle_ps(b, d, 0xEE);
  }
  for (int i = 0; i < 4; ++i) {  // then the 4 x 4 parts themselves
    const __m512 a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
    const __m512 b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xDD);
    const __m512 c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
    const __m512 d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xDD);
    out[i].v = _mm512_shuffle_f32x4(a, c, 0x88);
    out[i + 4].v = _mm512_shuffle_f32x4(b, d, 0x88);
    out[i + 8].v = _mm512_shuffle_f32x4(a, c, 0xDD);
    out[i + 12].v = _mm512_shuffle_f32x4(b, d, 0xDD);
  }
}
inline float LargestLane(const F& a) { return _mm512_reduce_max_ps(a.v); }
inline void StoreHalves(const F& a, uint16_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
inline __m128i Nearest(__m512 a) {
  const __m512i half = _mm512_or_si512(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MIN)), _mm512_castps_si512(_mm512_set1_ps(0.49999997f)));
  return _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(_mm512_add_ps(a, _mm512_castsi512_ps(half))));
}
inline void StoreNearest(const F& low, const F& high, int8_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), Nearest(low.v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16), Nearest(high.v));
}
inline __m512 LookUp32(const float table[32], __m512i index) {
  return _mm512_permutex2var_ps(_mm512_loadu_ps(table), index, _mm512_loadu_ps(table + 16));
}
inline F NearestIq4Level(const F& a) {
  const F bin = Min(Max(a * Set(0.125f) + Set(16.0f), Set(0.0f)), Set(31.0f));
  const __m512i b = _mm512_cvttps_epi32(bin.v);
  const Mask up = Less({LookUp32(kIq4Bins.threshold, b)}, a);
  return Select(up, {LookUp32(kIq4Bins.above, b)}, {LookUp32(kIq4Bins.below, b)});
}
// Sixteen int8, f16, bf16 values to f32.
inline F FromBytes(__m128i b) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b))}; }
inline F FromBytesAt(const void* p) { return FromBytes(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
// The low and the high nibbles of sixteen bytes.
struct Nibbles {
  F low, high;
};
inline Nibbles FromNibbles(const uint8_t* p) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {{_mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15)))}, {_mm512_cvtepi32_ps(_mm512_srli_epi32(bytes, 4))}};
}
// a * b - c of which only the difference may round: a fused one is the same then.
inline F MultiplySubtract(const F& a, const F& b, const F& c) { return {_mm512_fmsub_ps(a.v, b.v, c.v)}; }
inline F FromHalves(const void* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
inline F FromUpperHalves(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
