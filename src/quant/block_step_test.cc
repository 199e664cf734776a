// Tests of StepAt: codes lie whole steps apart, and rounding moves a value by half a step at most.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "quant/block_step.h"
#include "quant/quant.h"

namespace apr {
namespace {

struct Rounded {
  Shape shape{3, 512};
  std::vector<float> values, stored;
  std::vector<std::byte> bytes;
  TensorView view;

  explicit Rounded(DType dtype) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < shape.num_elements(); ++i) values.push_back(normal(random));
    bytes.resize(*StorageBytes(dtype, shape));
    EncodeRows(dtype, values.data(), shape[0], shape[1], nullptr, bytes.data());
    view = {dtype, shape, bytes};
    stored.resize(values.size());
    DecodeTensor(view, stored);
  }
  float Step(size_t i) const { return StepAt(view, static_cast<int64_t>(i) / shape[1], static_cast<int64_t>(i) % shape[1]); }
};

class EvenSteps : public testing::TestWithParam<std::pair<DType, int>> {};

TEST_P(EvenSteps, CodesLieWholeStepsApart) {
  const Rounded r(GetParam().first);
  const auto part = static_cast<size_t>(GetParam().second);  // elements that share a scale
  int single = 0;
  for (size_t i = 1; i < r.stored.size(); ++i) {
    const float step = r.Step(i);
    ASSERT_GT(step, 0) << i;
    if (i % part == 0) continue;
    EXPECT_EQ(step, r.Step(i - 1)) << i;
    const double codes = (static_cast<double>(r.stored[i]) - r.stored[i - 1]) / step;
    EXPECT_NEAR(codes, std::round(codes), 1e-3) << i;
    single += std::abs(codes) > 0.5 && std::abs(codes) < 1.5;
  }
  EXPECT_GT(single, 5) << "a step is no multiple of the real one";
}

TEST_P(EvenSteps, RoundingMovesByHalfOfOne) {
  const Rounded r(GetParam().first);
  size_t beyond = 0;
  for (size_t i = 0; i < r.stored.size(); ++i) beyond += std::abs(r.stored[i] - r.values[i]) > 0.51f * r.Step(i);
  // Where the range ends, a value may be farther from its last code.
  EXPECT_LT(beyond, r.stored.size() / 20);
}

INSTANTIATE_TEST_SUITE_P(Types, EvenSteps,
                         testing::Values(std::pair{DType::kQ4_0, 32}, std::pair{DType::kQ4_1, 32}, std::pair{DType::kQ5_0, 32}, std::pair{DType::kQ5_1, 32},
                                         std::pair{DType::kQ8_0, 32}, std::pair{DType::kQ2_K, 16}, std::pair{DType::kQ3_K, 16}, std::pair{DType::kQ4_K, 32},
                                         std::pair{DType::kQ5_K, 32}, std::pair{DType::kQ6_K, 16}, std::pair{DType::kAprQ4, 32}, std::pair{DType::kAprQ8, 1536}),
                         [](const auto& p) { return std::string(NameOf(p.param.first)); });

TEST(StepAt, IsTheLargerGapWhereCodesAreUneven) {
  for (const DType dtype : {DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4}) {
    const Rounded r(dtype);
    size_t beyond = 0;
    double square = 0, expected = 0;
    for (size_t i = 0; i < r.stored.size(); ++i) {
      const double error = std::abs(r.stored[i] - r.values[i]), step = r.Step(i);
      beyond += error > 0.51 * step;
      square += error * error;
      expected += step * step / 12;
    }
    EXPECT_LT(beyond, r.stored.size() / 20) << NameOf(dtype);
    EXPECT_GT(square, 0.3 * expected) << NameOf(dtype);
    EXPECT_LT(square, 1.5 * expected) << NameOf(dtype);
  }
}

TEST(StepAt, OfOtherTypesAmountsToTheirError) {
  const std::vector<std::byte> bytes(InfoOf(DType::kIQ2_XS).block_bytes, std::byte{0x31});
  const TensorView view{DType::kIQ2_XS, Shape{1, 256}, bytes};
  std::vector<float> values(256);
  DecodeTensor(view, values);
  double square = 0;
  for (const float v : values) square += static_cast<double>(v) * v;
  EXPECT_NEAR(StepAt(view, 0, 17), TypicalRelativeError(DType::kIQ2_XS) * std::sqrt(12 * square / 256), 1e-6 * StepAt(view, 0, 17));
  EXPECT_EQ(StepAt({DType::kF32, Shape{1, 1}, {}}, 0, 0), 0);
}

}  // namespace
}  // namespace apr
