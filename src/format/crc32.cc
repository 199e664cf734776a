// Crc32 and Crc32Of of apr_header.h. Folding by carry-less multiplication: V. Gopal et al., "Fast CRC Computation for Generic
// Polynomials Using PCLMULQDQ Instruction", Intel, 2009 (constants: section 4, bit-reflected CRC-32).
#include <zlib.h>

#include <algorithm>

#include "base/cpu_features.h"
#include "format/apr_header.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace apr {
namespace {

#if defined(__x86_64__)

constexpr size_t kFoldBytes = 64;

bool CanFold() {
  static const bool kHas = __builtin_cpu_supports("pclmul") != 0;
  return kHas && ActiveIsa() >= Isa::kAvx2;
}

#define APR_CRC_TARGET __attribute__((target("pclmul,sse4.1")))

// The 128 bits of `x` carried on by as many bits as `k` stands for, onto `next`.
APR_CRC_TARGET inline __m128i Fold(__m128i x, __m128i k, __m128i next) {
  return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, k, 0x00), _mm_clmulepi64_si128(x, k, 0x11)), next);
}

// `bytes`: at least 64, a multiple of 16. `state` is the inverted checksum so far.
APR_CRC_TARGET uint32_t FoldAll(uint32_t state, const std::byte* bytes, size_t count) {
  const auto load = [](const std::byte* p) APR_CRC_TARGET { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
  const __m128i by_512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
  const __m128i by_128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
  __m128i x[4];
  for (int i = 0; i < 4; ++i) x[i] = load(bytes + 16 * i);
  x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128(static_cast<int>(state)));
  for (bytes += 64, count -= 64; count >= 64; bytes += 64, count -= 64) {
    for (int i = 0; i < 4; ++i) x[i] = Fold(x[i], by_512, load(bytes + 16 * i));
  }
  __m128i y = x[0];
  for (int i = 1; i < 4; ++i) y = Fold(y, by_128, x[i]);
  for (; count >= 16; bytes += 16, count -= 16) y = Fold(y, by_128, load(bytes));
  // 128 bits to 64 to 32: Barrett reduction.
  const __m128i low = _mm_setr_epi32(-1, 0, -1, 0);
  const __m128i by_64 = _mm_set_epi64x(0, 0x0163cd6124);
  const __m128i polynomial = _mm_set_epi64x(0x01f7011641, 0x01db710641);
  y = _mm_xor_si128(_mm_srli_si128(y, 8), _mm_clmulepi64_si128(y, by_128, 0x10));
  y = _mm_xor_si128(_mm_srli_si128(y, 4), _mm_clmulepi64_si128(_mm_and_si128(y, low), by_64, 0x00));
  __m128i z = _mm_and_si128(_mm_clmulepi64_si128(_mm_and_si128(y, low), polynomial, 0x10), low);
  z = _mm_clmulepi64_si128(z, polynomial, 0x00);
  return static_cast<uint32_t>(_mm_extract_epi32(_mm_xor_si128(y, z), 1));
}

#undef APR_CRC_TARGET
#endif

}  // namespace

uint32_t Crc32(Bytes bytes, uint32_t crc) {
#if defined(__x86_64__)
  if (bytes.size() >= kFoldBytes && CanFold()) {
    const size_t folded = bytes.size() / 16 * 16;
    crc = ~FoldAll(~crc, bytes.data(), folded);
    bytes = bytes.subspan(folded);
  }
#endif
  while (!bytes.empty()) {
    const size_t take = std::min<size_t>(bytes.size(), 1 << 30);  // zlib takes 32-bit lengths
    crc = static_cast<uint32_t>(crc32(crc, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(take)));
    bytes = bytes.subspan(take);
  }
  return crc;
}

uint32_t Crc32Of(Bytes bytes, std::span<const KnownCrc> known) {
  uint32_t crc = 0;
  uint64_t at = 0;
  for (const KnownCrc& range : known) {
    if (range.offset < at || range.offset > bytes.size() || range.bytes > bytes.size() - range.offset) continue;
    crc = Crc32(bytes.subspan(at, range.offset - at), crc);
    crc = static_cast<uint32_t>(crc32_combine64(crc, range.crc, static_cast<z_off64_t>(range.bytes)));
    at = range.offset + range.bytes;
  }
  return Crc32(bytes.subspan(at), crc);
}

}  // namespace apr
