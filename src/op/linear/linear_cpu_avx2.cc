// Linear kernels on AVX2 with FMA and F16C: eight rows a panel.
#include "op/linear/linear_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "op/linear/linear_quantize.h"
#include "op/target_region.h"

APR_TARGET_BEGIN(APR_TARGET_AVX2)
namespace apr {
namespace {

#include "op/simd_avx2.inc"

constexpr int kRows = kLanes;

APR_INLINE __m128i Load128(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
APR_INLINE int32_t Load32(const void* p) {
  int32_t value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}
APR_INLINE int16_t Load16(const void* p) {
  int16_t value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}

// Sixteen bytes of each row; out[j] holds dword j of row r in lane r.
APR_INLINE void LoadQuads(const uint8_t* p, int64_t stride, VI out[4]) {
  __m256i a[4];
  APR_UNROLL for (int g = 0; g < 4; ++g) {
    a[g] = _mm256_inserti128_si256(_mm256_castsi128_si256(Load128(p + g * stride)),
                                   Load128(p + (g + 4) * stride), 1);
  }
  const __m256i low01 = _mm256_unpacklo_epi32(a[0], a[1]);
  const __m256i high01 = _mm256_unpackhi_epi32(a[0], a[1]);
  const __m256i low23 = _mm256_unpacklo_epi32(a[2], a[3]);
  const __m256i high23 = _mm256_unpackhi_epi32(a[2], a[3]);
  out[0] = _mm256_unpacklo_epi64(low01, low23);
  out[1] = _mm256_unpackhi_epi64(low01, low23);
  out[2] = _mm256_unpacklo_epi64(high01, high23);
  out[3] = _mm256_unpackhi_epi64(high01, high23);
}

APR_INLINE __m128i LoadDwords4(const uint8_t* p, int64_t stride) {
  __m128i v = _mm_cvtsi32_si128(Load32(p));
  v = _mm_insert_epi32(v, Load32(p + stride), 1);
  v = _mm_insert_epi32(v, Load32(p + 2 * stride), 2);
  return _mm_insert_epi32(v, Load32(p + 3 * stride), 3);
}
APR_INLINE VI LoadDwords(const uint8_t* p, int64_t stride) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(LoadDwords4(p, stride)),
                                 LoadDwords4(p + 4 * stride, stride), 1);
}
// One f16 of each row.
APR_INLINE VF LoadHalves(const uint8_t* p, int64_t stride) {
  __m128i v = _mm_cvtsi32_si128(static_cast<uint16_t>(Load16(p)));
  v = _mm_insert_epi16(v, Load16(p + stride), 1);
  v = _mm_insert_epi16(v, Load16(p + 2 * stride), 2);
  v = _mm_insert_epi16(v, Load16(p + 3 * stride), 3);
  v = _mm_insert_epi16(v, Load16(p + 4 * stride), 4);
  v = _mm_insert_epi16(v, Load16(p + 5 * stride), 5);
  v = _mm_insert_epi16(v, Load16(p + 6 * stride), 6);
  return _mm256_cvtph_ps(_mm_insert_epi16(v, Load16(p + 7 * stride), 7));
}
// The f16 in the low half of each lane.
APR_INLINE VF HalfToFloat(VI v) {
  const __m256i low = _mm256_blend_epi16(v, _mm256_setzero_si256(), 0xAA);
  const __m128i words =
      _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  return _mm256_cvtph_ps(words);
}

APR_INLINE VI FlipSigns(VI v) { return _mm256_xor_si256(v, _mm256_set1_epi8(static_cast<char>(0x80))); }
// Bit i of a lane of `bits` is bit 4 of code i of that row.
APR_INLINE void AddFifthBits(VI bits, VI w[8]) {
  const __m256i sixteen = _mm256_set1_epi8(16);
  const __m256i low = _mm256_set1_epi32(0x08040201);
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0x80402010));
  APR_UNROLL for (int i = 0; i < 4; ++i) {
    // Byte i of each lane, four times.
    const __m256i choose = _mm256_add_epi8(
        _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C, 0, 0x04040404, 0x08080808, 0x0C0C0C0C),
        _mm256_set1_epi8(static_cast<char>(i)));
    const __m256i byte = _mm256_shuffle_epi8(bits, choose);
    const __m256i in_low = _mm256_cmpeq_epi8(_mm256_and_si256(byte, low), low);
    const __m256i in_high = _mm256_cmpeq_epi8(_mm256_and_si256(byte, high), high);
    w[2 * i] = _mm256_or_si256(w[2 * i], _mm256_and_si256(in_low, sixteen));
    w[2 * i + 1] = _mm256_or_si256(w[2 * i + 1], _mm256_and_si256(in_high, sixteen));
  }
}

APR_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

// sum + the dot product of four unsigned codes of each row and four signed codes at x. kWide: codes
// above 127, whose byte products would saturate a 16-bit sum.
template <bool kWide>
APR_INLINE VI Dot(VI sum, VI w, const int8_t* x) {
  const __m256i quad = _mm256_set1_epi32(Load32(x));
  if constexpr (kWide) {
    const __m256i half = _mm256_and_si256(_mm256_srli_epi16(w, 1), _mm256_set1_epi8(0x7F));
    const __m256i odd = _mm256_and_si256(w, _mm256_set1_epi8(1));
    sum = _mm256_add_epi32(
        sum, _mm256_madd_epi16(_mm256_maddubs_epi16(half, quad), _mm256_set1_epi16(2)));
    w = odd;
  }
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, quad), _mm256_set1_epi16(1)));
}

template <DType kType>
APR_INLINE VF LoadPlain(const std::byte* p) {
  if constexpr (kType == DType::kF32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  } else {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    if constexpr (kType == DType::kF16) return _mm256_cvtph_ps(narrow);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
  }
}

// rows[r] lane c goes to out[c * kRows + r].
APR_INLINE void TransposeStore(const VF rows[kRows], float* out) {
  __m256 pairs[kRows];
  APR_UNROLL for (int i = 0; i < kRows; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  // fours[4 g + j]: in 128-bit lane L, column 4 L + j of rows 4 g .. 4 g + 3.
  __m256 fours[kRows];
  APR_UNROLL for (int i = 0; i < kRows; i += 4) {
    fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
    fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
  }
  APR_UNROLL for (int j = 0; j < 4; ++j) {
    _mm256_storeu_ps(out + j * kRows, _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20));
    _mm256_storeu_ps(out + (4 + j) * kRows, _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31));
  }
}

#include "op/linear/linear_cpu_x86.inc"
#include "op/linear/linear_cpu_x86_floats.inc"
}  // namespace
}  // namespace apr
APR_TARGET_END

namespace apr {

const LinearKernels& LinearKernelsAvx2() {
  static constexpr LinearKernels kTable = {Isa::kAvx2, kRows, FindUnpackF32, DotFloats, DotRows, FindFast, Quantize};
  return kTable;
}

}  // namespace apr
#endif
