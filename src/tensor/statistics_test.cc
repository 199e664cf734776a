// Statistics against values worked out by hand, and against two ways of cutting the same data.
#include "tensor/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace apr {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(Statistics, CountsWhatIsNotFiniteApart) {
  StatisticsBuilder builder;
  const std::vector<float> values = {1, 2, 3, 4, kNan, -kInf, kInf, 0};
  builder.Add(values);
  const Statistics s = builder.Finish();
  EXPECT_EQ(s.count, 8u);
  EXPECT_EQ(s.nan_count, 1u);
  EXPECT_EQ(s.inf_count, 2u);
  EXPECT_EQ(s.zero_count, 1u);
  EXPECT_DOUBLE_EQ(s.mean, 2);
  EXPECT_DOUBLE_EQ(s.std, std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(s.l2_norm, std::sqrt(30.0));
  EXPECT_EQ(s.min, 0);
  EXPECT_EQ(s.max, 4);
  EXPECT_EQ(s.max_abs, 4);
}

TEST(Statistics, NothingFiniteIsNoNumber) {
  StatisticsBuilder builder;
  builder.Add(std::vector<double>{std::nan(""), std::nan("")});
  EXPECT_TRUE(std::isnan(builder.Finish().mean));
  EXPECT_EQ(builder.Finish().nan_count, 2u);
  EXPECT_TRUE(std::isnan(StatisticsBuilder().Finish().max));
}

TEST(Statistics, LargeOffsetsKeepTheirDeviation) {
  std::vector<double> values;
  for (int i = 0; i < 100000; ++i) values.push_back(1e9 + (i % 2 == 0 ? 0.5 : -0.5));
  StatisticsBuilder whole;
  whole.Add(values);
  EXPECT_NEAR(whole.Finish().std, 0.5, 1e-9);
  StatisticsBuilder pieces;
  for (size_t at = 0; at < values.size(); at += 1000) pieces.Add(std::span(values).subspan(at, 1000));
  EXPECT_NEAR(pieces.Finish().std, 0.5, 1e-9);
}

}  // namespace
}  // namespace apr
