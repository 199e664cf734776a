// See plain.h.
#include "quant/plain.h"

#include <array>
#include <cstring>

namespace apr {
namespace {

template <typename T>
void Convert(const std::byte* row, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; ++i) out[i] = static_cast<float>(LoadLe<T>(row + i * sizeof(T)));
}

using ByteTable = std::array<float, 256>;

ByteTable MakeTable(float (*decode)(uint8_t)) {
  ByteTable table;
  for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = decode(static_cast<uint8_t>(i));
  return table;
}

void LookUp(const ByteTable& table, const std::byte* row, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; ++i) out[i] = table[static_cast<size_t>(row[i])];
}

}  // namespace

void DecodeF64(const std::byte* row, int64_t cols, float* out) { Convert<double>(row, cols, out); }

void DecodeF32(const std::byte* row, int64_t cols, float* out) {
  if (cols > 0) std::memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
}

void DecodeF16(const std::byte* row, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; ++i) out[i] = F16ToF32(LoadLe<uint16_t>(row + 2 * i));
}

void DecodeBF16(const std::byte* row, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; ++i) out[i] = Bf16ToF32(LoadLe<uint16_t>(row + 2 * i));
}

void DecodeF8E4M3(const std::byte* row, int64_t cols, float* out) {
  static const ByteTable kTable = MakeTable(F8E4M3ToF32);
  LookUp(kTable, row, cols, out);
}

void DecodeF8E5M2(const std::byte* row, int64_t cols, float* out) {
  static const ByteTable kTable = MakeTable(F8E5M2ToF32);
  LookUp(kTable, row, cols, out);
}

void DecodeI64(const std::byte* row, int64_t cols, float* out) { Convert<int64_t>(row, cols, out); }
void DecodeI32(const std::byte* row, int64_t cols, float* out) { Convert<int32_t>(row, cols, out); }
void DecodeI16(const std::byte* row, int64_t cols, float* out) { Convert<int16_t>(row, cols, out); }
void DecodeI8(const std::byte* row, int64_t cols, float* out) { Convert<int8_t>(row, cols, out); }
void DecodeU64(const std::byte* row, int64_t cols, float* out) {
  Convert<uint64_t>(row, cols, out);
}
void DecodeU32(const std::byte* row, int64_t cols, float* out) {
  Convert<uint32_t>(row, cols, out);
}
void DecodeU16(const std::byte* row, int64_t cols, float* out) {
  Convert<uint16_t>(row, cols, out);
}
void DecodeU8(const std::byte* row, int64_t cols, float* out) { Convert<uint8_t>(row, cols, out); }

void DecodeBool(const std::byte* row, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; ++i) out[i] = row[i] == std::byte{0} ? 0.0f : 1.0f;
}

void EncodeF64(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  for (int64_t i = 0; i < cols; ++i) StoreLe(out + 8 * i, static_cast<double>(x[i]));
}

void EncodeF32(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  if (cols > 0) std::memcpy(out, x, static_cast<size_t>(cols) * sizeof(float));
}

void EncodeBF16(const float* x, int64_t cols, const float* /*weights*/, std::byte* out) {
  for (int64_t i = 0; i < cols; ++i) StoreLe(out + 2 * i, F32ToBf16(x[i]));
}

}  // namespace apr
