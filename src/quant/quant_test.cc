// Tests of the front door: sizes, padding, f64.
#include "quant/quant.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/error.h"
#include "quant/q_k.h"
#include "quant/q_legacy.h"

namespace apr {
namespace {

Bytes BytesOf(const void* p, size_t n) { return {static_cast<const std::byte*>(p), n}; }

TEST(DecodeTensor, RefusesBytesThatDoNotFitTheShape) {
  const std::vector<std::byte> bytes(37);
  std::vector<float> out(64);
  for (const size_t n : {0u, 18u, 35u, 37u}) {
    try {
      DecodeTensor({DType::kQ4_0, Shape{2, 32}, Bytes(bytes).first(n)}, out);
      ADD_FAILURE() << n << " bytes were accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidFormat);
    }
  }
  EXPECT_NO_THROW(DecodeTensor({DType::kQ4_0, Shape{2, 32}, Bytes(bytes).first(36)}, out));
}

TEST(DecodeTensor, LeavesOutThePaddingOfRows) {
  // Two rows of 3 elements, each stored as a whole super-block.
  BlockQ6_K blocks[2] = {};
  for (int r = 0; r < 2; ++r) {
    blocks[r].d.set_bits(0x3C00);
    for (int8_t& scale : blocks[r].scales) scale = 1;
    for (int i = 0; i < 128; ++i) blocks[r].ql[i] = static_cast<uint8_t>(r + i);
  }
  std::vector<float> out(6);
  DecodeTensor({DType::kQ6_K, Shape{2, 3}, BytesOf(blocks, sizeof blocks)}, out);
  EXPECT_EQ(out, (std::vector<float>{-32, -31, -30, -31, -30, -29}));
}

TEST(DecodeTensorF64, IsExactWhereF32IsNot) {
  const double values[2] = {1.0 / 3.0, 1e300};
  std::vector<double> out(2);
  DecodeTensorF64({DType::kF64, Shape{2}, BytesOf(values, sizeof values)}, out);
  EXPECT_EQ(out[0], values[0]);
  EXPECT_EQ(out[1], values[1]);
  const int64_t big[1] = {(int64_t{1} << 53) - 1};
  out.resize(1);
  DecodeTensorF64({DType::kI64, Shape{1}, BytesOf(big, sizeof big)}, out);
  EXPECT_EQ(out[0], 9007199254740991.0);
}

TEST(DecodeTensor, EmptyTensorHasNoBytes) {
  EXPECT_NO_THROW(DecodeTensor({DType::kQ4_0, Shape{0, 32}, {}}, {}));
  const std::byte one{};
  EXPECT_THROW(DecodeTensor({DType::kQ4_0, Shape{0, 32}, {&one, 1}}, {}), Error);
}

TEST(PackedScales, PackIsTheInverseOfUnpack) {
  for (int seed = 0; seed < 64; ++seed) {
    uint8_t scales[8], mins[8], s2[8], m2[8], packed[12];
    for (int j = 0; j < 8; ++j) {
      scales[j] = static_cast<uint8_t>((seed + 11 * j) % 64);
      mins[j] = static_cast<uint8_t>((seed * 5 + 23 * j) % 64);
    }
    PackScalesMins(scales, mins, packed);
    UnpackScalesMins(packed, s2, m2);
    EXPECT_EQ(std::memcmp(scales, s2, 8), 0);
    EXPECT_EQ(std::memcmp(mins, m2, 8), 0);
    int8_t q3[16], q3_back[16];
    for (int j = 0; j < 16; ++j) q3[j] = static_cast<int8_t>((seed + 7 * j) % 64 - 32);
    PackScalesQ3(q3, packed);
    UnpackScalesQ3(packed, q3_back);
    EXPECT_EQ(std::memcmp(q3, q3_back, 16), 0);
  }
}

}  // namespace
}  // namespace apr
