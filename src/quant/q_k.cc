// See q_k.h.
#include "quant/q_k.h"

namespace apr {

void UnpackScalesMins(const uint8_t packed[12], uint8_t scales[8], uint8_t mins[8]) {
  // Four bytes at a time: what a shift brings in from a neighbour is masked.
  const auto scale = LoadLe<uint32_t>(packed), min = LoadLe<uint32_t>(packed + 4), low = LoadLe<uint32_t>(packed + 8);
  StoreLe(scales, scale & 0x3F3F3F3Fu);
  StoreLe(scales + 4, (low & 0x0F0F0F0Fu) | ((scale >> 2) & 0x30303030u));
  StoreLe(mins, min & 0x3F3F3F3Fu);
  StoreLe(mins + 4, ((low >> 4) & 0x0F0F0F0Fu) | ((min >> 2) & 0x30303030u));
}

void PackScalesMins(const uint8_t scales[8], const uint8_t mins[8], uint8_t packed[12]) {
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<uint8_t>(scales[j] | ((scales[j + 4] >> 4) << 6));
    packed[j + 4] = static_cast<uint8_t>(mins[j] | ((mins[j + 4] >> 4) << 6));
    packed[j + 8] = static_cast<uint8_t>((scales[j + 4] & 15) | ((mins[j + 4] & 15) << 4));
  }
}

void UnpackScalesQ3(const uint8_t packed[12], int8_t scales[16]) {
  for (int j = 0; j < 16; ++j) {
    const int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
    const int high = (packed[8 + j % 4] >> (2 * (j / 4))) & 3;
    scales[j] = static_cast<int8_t>((low | (high << 4)) - 32);
  }
}

void PackScalesQ3(const int8_t scales[16], uint8_t packed[12]) {
  for (int j = 0; j < 12; ++j) packed[j] = 0;
  for (int j = 0; j < 16; ++j) {
    const int code = scales[j] + 32;
    packed[j % 8] = static_cast<uint8_t>(packed[j % 8] | ((code & 15) << (j < 8 ? 0 : 4)));
    packed[8 + j % 4] = static_cast<uint8_t>(packed[8 + j % 4] | ((code >> 4) << (2 * (j / 4))));
  }
}

void DecodeQ2_K(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ2_K>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, out += kSuperBlock) {
    const float d = block[b].d.get();
    const float dmin = block[b].dmin.get();
    for (int j = 0; j < 16; ++j) {
      const float scale = d * static_cast<float>(block[b].scales[j] & 15);
      const float min = dmin * static_cast<float>(block[b].scales[j] >> 4);
      const uint8_t* qs = block[b].qs + 32 * (j / 8) + 16 * (j % 2);
      const int shift = 2 * ((j / 2) % 4);
      for (int i = 0; i < 16; ++i) {
        out[16 * j + i] = scale * static_cast<float>((qs[i] >> shift) & 3) - min;
      }
    }
  }
}

void DecodeQ3_K(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ3_K>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, out += kSuperBlock) {
    const float d = block[b].d.get();
    int8_t scales[16];
    UnpackScalesQ3(block[b].scales, scales);
    for (int j = 0; j < 16; ++j) {
      const float scale = d * static_cast<float>(scales[j]);
      const uint8_t* qs = block[b].qs + 32 * (j / 8) + 16 * (j % 2);
      const uint8_t* hmask = block[b].hmask + 16 * (j % 2);
      const int shift = 2 * ((j / 2) % 4);
      for (int i = 0; i < 16; ++i) {
        const int q = ((qs[i] >> shift) & 3) - (((hmask[i] >> (j / 2)) & 1) != 0 ? 0 : 4);
        out[16 * j + i] = scale * static_cast<float>(q);
      }
    }
  }
}

void DecodeQ4_K(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ4_K>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, out += kSuperBlock) {
    const float d = block[b].d.get();
    const float dmin = block[b].dmin.get();
    uint8_t scales[8];
    uint8_t mins[8];
    UnpackScalesMins(block[b].scales, scales, mins);
    for (int j = 0; j < 8; ++j) {
      const float scale = d * static_cast<float>(scales[j]);
      const float min = dmin * static_cast<float>(mins[j]);
      const uint8_t* qs = block[b].qs + 32 * (j / 2);
      const int shift = 4 * (j % 2);
      for (int i = 0; i < 32; ++i) {
        out[32 * j + i] = scale * static_cast<float>((qs[i] >> shift) & 15) - min;
      }
    }
  }
}

void DecodeQ5_K(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ5_K>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, out += kSuperBlock) {
    const float d = block[b].d.get();
    const float dmin = block[b].dmin.get();
    uint8_t scales[8];
    uint8_t mins[8];
    UnpackScalesMins(block[b].scales, scales, mins);
    for (int j = 0; j < 8; ++j) {
      const float scale = d * static_cast<float>(scales[j]);
      const float min = dmin * static_cast<float>(mins[j]);
      const uint8_t* qs = block[b].qs + 32 * (j / 2);
      const int shift = 4 * (j % 2);
      for (int i = 0; i < 32; ++i) {
        const int q = ((qs[i] >> shift) & 15) | (((block[b].qh[i] >> j) & 1) << 4);
        out[32 * j + i] = scale * static_cast<float>(q) - min;
      }
    }
  }
}

void DecodeQ6_K(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ6_K>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, out += kSuperBlock) {
    const float d = block[b].d.get();
    for (int j = 0; j < 16; ++j) {
      const float scale = d * static_cast<float>(block[b].scales[j]);
      // Sub-block j: half h of 128 elements, quarter s of 32 in it, 16 elements from l.
      const int h = j / 8;
      const int s = (j / 2) % 4;
      const int l = 16 * (j % 2);
      const uint8_t* ql = block[b].ql + 64 * h + 32 * (s % 2) + l;
      const uint8_t* qh = block[b].qh + 32 * h + l;
      for (int i = 0; i < 16; ++i) {
        const int q = ((ql[i] >> (4 * (s / 2))) & 15) | (((qh[i] >> (2 * s)) & 3) << 4);
        out[16 * j + i] = scale * static_cast<float>(q - 32);
      }
    }
  }
}

void DecodeQ8_K(const std::byte* row, int64_t cols, float* out) {
  const auto* block = AsBlocks<BlockQ8_K>(row);
  for (int64_t b = 0; b < cols / kSuperBlock; ++b, out += kSuperBlock) {
    const float d = block[b].d.get();
    for (int i = 0; i < kSuperBlock; ++i) out[i] = d * static_cast<float>(block[b].qs[i]);
  }
}

}  // namespace apr
