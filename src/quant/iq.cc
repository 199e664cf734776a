// See iq.h.
#include "quant/iq.h"

#include <bit>

#include "quant/iq_tables.h"

namespace apr {
namespace {

// Eight signs from the seven that are stored: bit 7 is their parity.
inline uint32_t EvenSigns(uint32_t seven) {
  return seven | (static_cast<uint32_t>(std::popcount(seven)) & 1u) << 7;
}

// `count` elements of codebook entry `word` times `scale`, negated where the bit of `signs` is set.
template <int count, typename Word>
inline void Signed(Word word, float scale, uint32_t signs, float* out) {
  for (int i = 0; i < count; ++i) {
    const float magnitude = scale * static_cast<float>((word >> (8 * i)) & 0xFF);
    out[i] = ((signs >> i) & 1u) != 0 ? -magnitude : magnitude;
  }
}

// Eight elements of an IQ1 entry, shifted by delta.
inline void Shifted(uint64_t word, float scale, float delta, float* out) {
  for (int i = 0; i < 8; ++i) {
    out[i] = scale * (static_cast<float>(static_cast<int8_t>(word >> (8 * i))) + delta);
  }
}

inline float HalfStep(float d, uint32_t scale) { return d * (0.5f + static_cast<float>(scale)); }
inline float OddStep(float d, uint32_t scale) { return d * static_cast<float>(2 * scale + 1); }

}  // namespace

void DecodeIQ1_S(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ1_S>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    const float d = block[b].d.get();
    for (int j = 0; j < 8; ++j) {
      const uint32_t qh = block[b].qh[j].get();
      const float scale = OddStep(d, (qh >> 12) & 7);
      const float delta = (qh & 0x8000u) != 0 ? -0.125f : 0.125f;
      for (int k = 0; k < 4; ++k, out += 8) {
        const uint32_t index = block[b].qs[4 * j + k] | ((qh >> (3 * k)) & 7) << 8;
        Shifted(kIq1Grid[index], scale, delta, out);
      }
    }
  }
}

void DecodeIQ1_M(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ1_M>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    uint32_t d_bits = 0;
    for (int j = 0; j < 4; ++j)
      d_bits |= static_cast<uint32_t>(block[b].scales[j].get() >> 12) << (4 * j);
    const float d = F16ToF32(static_cast<uint16_t>(d_bits));
    for (int k = 0; k < 32; ++k, out += 8) {
      const uint32_t scales = block[b].scales[k / 8].get();
      const float scale = OddStep(d, (scales >> (3 * (k / 2 % 4))) & 7);
      const uint32_t qh = block[b].qh[k / 2] >> (4 * (k % 2));
      const uint32_t index = block[b].qs[k] | (qh & 7) << 8;
      Shifted(kIq1Grid[index], scale, (qh & 8) != 0 ? -0.125f : 0.125f, out);
    }
  }
}

void DecodeIQ2_XXS(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ2_XXS>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    const float d = block[b].d.get();
    for (const auto& group : block[b].group) {
      const uint32_t signs_scale = group.signs_scale.get();
      const float scale = HalfStep(d, signs_scale >> 28) * 0.25f;
      for (int k = 0; k < 4; ++k, out += 8) {
        Signed<8>(kIq2XxsGrid[group.index[k]], scale, EvenSigns((signs_scale >> (7 * k)) & 127),
                  out);
      }
    }
  }
}

void DecodeIQ2_XS(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ2_XS>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    const float d = block[b].d.get();
    for (int k = 0; k < 32; ++k, out += 8) {
      const uint32_t s = (block[b].scales[k / 4] >> (4 * (k / 2 % 2))) & 15;
      const uint32_t q = block[b].qs[k].get();
      Signed<8>(kIq2XsGrid[q & 511], HalfStep(d, s) * 0.25f, EvenSigns(q >> 9), out);
    }
  }
}

void DecodeIQ2_S(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ2_S>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    const float d = block[b].d.get();
    for (int k = 0; k < 32; ++k, out += 8) {
      const uint32_t s = (block[b].scales[k / 4] >> (4 * (k / 2 % 2))) & 15;
      const uint32_t index = block[b].qs[k] | ((block[b].qh[k / 4] >> (2 * (k % 4))) & 3u) << 8;
      Signed<8>(kIq2SGrid[index], HalfStep(d, s) * 0.25f, block[b].signs[k], out);
    }
  }
}

void DecodeIQ3_XXS(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ3_XXS>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    const float d = block[b].d.get();
    for (int k = 0; k < 64; ++k, out += 4) {
      const uint32_t signs_scale = block[b].signs_scale[k / 8].get();
      const uint32_t signs = EvenSigns((signs_scale >> (7 * (k / 2 % 4))) & 127) >> (4 * (k % 2));
      Signed<4>(kIq3XxsGrid[block[b].qs[k]], HalfStep(d, signs_scale >> 28) * 0.5f, signs, out);
    }
  }
}

void DecodeIQ3_S(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ3_S>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    const float d = block[b].d.get();
    for (int k = 0; k < 64; ++k, out += 4) {
      const uint32_t s = (block[b].scales[k / 16] >> (4 * (k / 8 % 2))) & 15;
      const uint32_t index = block[b].qs[k] | ((block[b].qh[k / 8] >> (k % 8)) & 1u) << 8;
      const uint32_t signs = static_cast<uint32_t>(block[b].signs[k / 2]) >> (4 * (k % 2));
      Signed<4>(kIq3SGrid[index], OddStep(d, s), signs, out);
    }
  }
}

void DecodeIQ4_NL(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ4_NL>(row);
  for (int64_t b = 0; b < cols / kBlock32; ++b, out += kBlock32) {
    const float d = block[b].d.get();
    for (int i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>(kIq4Levels[block[b].qs[i] & 15]);
      out[i + 16] = d * static_cast<float>(kIq4Levels[block[b].qs[i] >> 4]);
    }
  }
}

void DecodeIQ4_XS(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockIQ4_XS>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    const float d = block[b].d.get();
    const uint32_t high = block[b].scales_h.get();
    for (int j = 0; j < 8; ++j, out += 32) {
      const int low = (block[b].scales_l[j / 2] >> (4 * (j % 2))) & 15;
      const int s = (low | static_cast<int>((high >> (2 * j)) & 3) << 4) - 32;
      const float scale = d * static_cast<float>(s);
      const uint8_t* qs = block[b].qs + 16 * j;
      for (int i = 0; i < 16; ++i) {
        out[i] = scale * static_cast<float>(kIq4Levels[qs[i] & 15]);
        out[i + 16] = scale * static_cast<float>(kIq4Levels[qs[i] >> 4]);
      }
    }
  }
}

}  // namespace apr
