// Tests of the families on blocks written down by hand, and of the encoders' rules and refusals.
// The exhaustive comparison with ggml's results is src/format/quant_oracle_test.cc.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/cpu_features.h"
#include "base/error.h"
#include "quant/apr_native.h"
#include "quant/iq.h"
#include "quant/iq_tables.h"
#include "quant/mx.h"
#include "quant/q_k.h"
#include "quant/q_legacy.h"
#include "quant/quant.h"
#include "quant/ternary.h"

namespace apr {
namespace {

constexpr uint16_t kHalfOne = 0x3C00;  // 1.0 in f16

template <typename Block>
std::vector<float> DecodeBlock(DType dtype, const Block& block) {
  std::vector<float> out(InfoOf(dtype).block_elems);
  EXPECT_EQ(sizeof(Block), InfoOf(dtype).block_bytes) << NameOf(dtype);
  DecodeRow(dtype, reinterpret_cast<const std::byte*>(&block), static_cast<int64_t>(out.size()),
            out.data());
  return out;
}

std::vector<float> RoundTrip(DType dtype, const std::vector<float>& x) {
  const Shape shape{1, static_cast<int64_t>(x.size())};
  std::vector<std::byte> bytes(*StorageBytes(dtype, shape));
  EncodeRows(dtype, x.data(), 1, shape.cols(), nullptr, bytes.data());
  std::vector<float> out(x.size());
  DecodeTensor({dtype, shape, bytes}, out);
  return out;
}

TEST(Plain, NarrowFloatsAndIntegers) {
  const uint8_t e4m3[3] = {0x38, 0x7E, 0x01};  // 1, 448, 2^-9
  float out[3];
  DecodeRow(DType::kF8E4M3, reinterpret_cast<const std::byte*>(e4m3), 3, out);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], 448.0f);
  EXPECT_EQ(out[2], 0x1p-9f);
  const int16_t i16[2] = {-32768, 7};
  DecodeRow(DType::kI16, reinterpret_cast<const std::byte*>(i16), 2, out);
  EXPECT_EQ(out[0], -32768.0f);
  EXPECT_EQ(out[1], 7.0f);
  const uint64_t u64[1] = {0xFFFFFFFFFFFFFFFFu};
  DecodeRow(DType::kU64, reinterpret_cast<const std::byte*>(u64), 1, out);
  EXPECT_EQ(out[0], 0x1p64f);
  const uint8_t flags[2] = {0, 2};
  DecodeRow(DType::kBool, reinterpret_cast<const std::byte*>(flags), 2, out);
  EXPECT_EQ(out[1], 1.0f);
}

TEST(Legacy, HalvesOfABlockAreLowAndHighNibbles) {
  BlockQ4_0 block{};
  block.d.set_bits(kHalfOne);
  block.qs[3] = 0xA1;
  const std::vector<float> out = DecodeBlock(DType::kQ4_0, block);
  EXPECT_EQ(out[3], 1.0f - 8.0f);
  EXPECT_EQ(out[19], 10.0f - 8.0f);
}

TEST(Legacy, FifthBitOfElementIIsBitI) {
  BlockQ5_1 block{};
  block.d.set_bits(kHalfOne);
  block.m.set_bits(kHalfOne);
  block.qh.set(uint32_t{1} << 20);
  const std::vector<float> out = DecodeBlock(DType::kQ5_1, block);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], i == 20 ? 17.0f : 1.0f) << i;
}

TEST(KTypes, HighBitsReachTheRightElement) {
  BlockQ6_K q6{};
  q6.d.set_bits(kHalfOne);
  for (int8_t& s : q6.scales) s = 1;
  q6.qh[32 + 5] = 2 << 4;  // half 1, quarter 2, element 5 of 32
  const std::vector<float> six = DecodeBlock(DType::kQ6_K, q6);
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(six[i], i == 128 + 64 + 5 ? 0.0f : -32.0f) << i;

  BlockQ5_K q5{};
  q5.d.set_bits(kHalfOne);
  const uint8_t ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  PackScalesMins(ones, ones, q5.scales);
  q5.qh[7] = 1 << 6;
  const std::vector<float> five = DecodeBlock(DType::kQ5_K, q5);
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(five[i], i == 6 * 32 + 7 ? 16.0f : 0.0f) << i;

  BlockQ3_K q3{};
  q3.d.set_bits(kHalfOne);
  int8_t scales[16] = {};
  scales[9] = -3;
  PackScalesQ3(scales, q3.scales);
  const std::vector<float> three = DecodeBlock(DType::kQ3_K, q3);
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(three[i], i / 16 == 9 ? 12.0f : 0.0f) << i;
}

TEST(Iq, TablesHoldWhatTheHeaderSays) {
  for (const uint64_t word : kIq2SGrid) {
    for (int i = 0; i < 8; ++i) {
      const uint64_t byte = (word >> (8 * i)) & 0xFF;
      EXPECT_TRUE(byte == 8 || byte == 25 || byte == 43) << byte;
    }
  }
  for (const uint64_t word : kIq1Grid) {
    for (int i = 0; i < 8; ++i) EXPECT_LE(std::abs(static_cast<int8_t>(word >> (8 * i))), 1);
  }
}

TEST(Iq, EighthSignMakesTheirNumberEven) {
  BlockIQ2_XXS block{};
  block.d.set_bits(kHalfOne);
  block.group[0].signs_scale.set(1u | 1u << 28);  // element 0 negative, scale 1
  const std::vector<float> out = DecodeBlock(DType::kIQ2_XXS, block);
  EXPECT_EQ(out[0], -8.0f * 1.5f * 0.25f);
  EXPECT_EQ(out[7], -8.0f * 1.5f * 0.25f);
  EXPECT_EQ(out[1], 8.0f * 1.5f * 0.25f);
}

TEST(Ternary, EveryCodeComesBack) {
  std::vector<float> x(512);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = 0.5f * static_cast<float>(static_cast<int>((i * i + i / 7) % 3) - 1);
  EXPECT_EQ(RoundTrip(DType::kTQ1_0, x), x);
  EXPECT_EQ(RoundTrip(DType::kTQ2_0, x), x);
}

TEST(Mx, ScalesAtTheEnds) {
  EXPECT_EQ(MxHalfScale(0), 0x1p-128f);
  EXPECT_EQ(MxHalfScale(1), 0x1p-127f);
  EXPECT_EQ(MxHalfScale(128), 1.0f);
  EXPECT_EQ(NvHalfScale(0x38), 0.5f);
  EXPECT_EQ(NvHalfScale(0x01), 0x1p-10f);
  EXPECT_EQ(NvHalfScale(0x7F), 0.0f);
}

TEST(AprNative, NeighboursShareAByteAndTheTailIsCut) {
  std::vector<float> x(33);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i % 15) - 7);
  x[32] = 7.0f;
  EXPECT_EQ(RoundTrip(DType::kAprQ4, x), x);  // the scale of both blocks is 1
  const std::vector<float> q8 = RoundTrip(DType::kAprQ8, x);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(q8[i], x[i], 0.5 * 7 / 127 + 1e-6);
}

// Random bytes, so every code occurs; infinities and NaNs among the scales too.
TEST(VectorDecoders, GiveTheBitsOfTheScalarOnes) {
  std::mt19937 random(9);
  const Isa before = ActiveIsa();
  for (const DTypeInfo& info : AllDTypes()) {
    if (!CanDecode(info.dtype) || info.dtype == DType::kAprQ4 || info.dtype == DType::kAprQ8) continue;
    for (const int64_t blocks : {1, 7, 40}) {
      std::vector<std::byte> bytes(static_cast<size_t>(blocks) * info.block_bytes);
      for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 255u);
      const int64_t cols = blocks * info.block_elems;
      std::vector<float> expected(static_cast<size_t>(cols));
      std::vector<float> found(static_cast<size_t>(cols));
      ForceIsa("scalar");
      DecodeRow(info.dtype, bytes.data(), cols, expected.data());
      for (const IsaInfo& isa : AllIsas()) {
        if (!isa.available) continue;
        ForceIsa(isa.name);
        DecodeRow(info.dtype, bytes.data(), cols, found.data());
        size_t wrong = 0;
        for (size_t i = 0; i < found.size(); ++i) {
          const bool both_nan = std::isnan(found[i]) && std::isnan(expected[i]);
          wrong += both_nan || std::bit_cast<uint32_t>(found[i]) == std::bit_cast<uint32_t>(expected[i]) ? 0 : 1;
        }
        EXPECT_EQ(wrong, 0u) << info.name << " with " << isa.name << ", " << blocks << " blocks";
      }
    }
  }
  ForceIsa(IsaName(before));
}

class EveryEncoder : public testing::TestWithParam<DType> {};

TEST_P(EveryEncoder, RefusesNonFiniteValuesByPosition) {
  std::vector<float> x(512, 0.25f);
  std::vector<std::byte> out(*StorageBytes(GetParam(), Shape{2, 256}));
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    x[256 + 3] = bad;
    try {
      EncodeRows(GetParam(), x.data(), 2, 256, nullptr, out.data());
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kValidationFailed);
      EXPECT_NE(e.message().find("[1, 3]"), std::string::npos) << e.message();
    }
  }
}

TEST_P(EveryEncoder, HoldsZerosAndTinyValues) {
  for (const float value : {0.0f, 1e-9f, 1e-40f, -1e-45f}) {
    const std::vector<float> x(256, value);
    for (const float y : RoundTrip(GetParam(), x)) EXPECT_LE(std::fabs(y), 1e-6f) << value;
  }
}

TEST_P(EveryEncoder, ErrsAsMuchAsTheTableSays) {
  std::mt19937 random(42);
  std::normal_distribution<float> normal;
  std::vector<float> x(256 * 512);
  for (float& v : x) v = normal(random);
  const std::vector<float> y = RoundTrip(GetParam(), x);
  double error = 0.0;
  double power = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(static_cast<double>(y[i]) - static_cast<double>(x[i]), 2);
    power += std::pow(static_cast<double>(x[i]), 2);
  }
  const double relative = std::sqrt(error / power);
  // One scale for a whole tensor depends on its largest value, hence on its size.
  const double tolerance = GetParam() == DType::kAprQ8 ? 0.15 : 0.03;
  EXPECT_NEAR(relative, TypicalRelativeError(GetParam()), tolerance * relative);
}

TEST_P(EveryEncoder, KeepsAConstantRow) {
  for (const float value : {0.75f, -0.75f}) {
    const std::vector<float> x(256, value);
    for (const float y : RoundTrip(GetParam(), x)) EXPECT_NEAR(y, value, 0.03f) << value;
  }
}

std::vector<DType> QuantisedEncoders() {
  std::vector<DType> dtypes;
  for (const DTypeInfo& info : AllDTypes()) {
    if (IsQuantized(info.dtype) && CanEncode(info.dtype)) dtypes.push_back(info.dtype);
  }
  return dtypes;
}
INSTANTIATE_TEST_SUITE_P(Types, EveryEncoder, testing::ValuesIn(QuantisedEncoders()),
                         [](const auto& p) { return std::string(NameOf(p.param)); });

TEST(Encoders, ValuesWhoseScaleDoesNotFitAreRefused) {
  const std::vector<float> x(256, 3e38f);
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                            DType::kTQ1_0, DType::kTQ2_0, DType::kAprQ4}) {
    std::vector<std::byte> out(*StorageBytes(dtype, Shape{1, 256}));
    EXPECT_THROW(EncodeRows(dtype, x.data(), 1, 256, nullptr, out.data()), Error) << NameOf(dtype);
  }
}

}  // namespace
}  // namespace apr
