// Softmax rows against the C library in long double, and what they refuse.
#include "eval/log_softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "eval/moments.h"

namespace apr {
namespace {

Tensor Row(const std::vector<double>& values) {
  Tensor out(DType::kF64, Shape{1, static_cast<int64_t>(values.size())});
  std::ranges::copy(values, out.f64().begin());
  return out;
}

std::vector<double> Spread(size_t count, double scale, uint32_t seed) {
  std::vector<double> out(count);
  for (double& x : out) {
    seed = seed * 1664525U + 1013904223U;
    x = scale * (static_cast<double>(seed >> 8) / 16777216.0 - 0.5);
  }
  return out;
}

TEST(LogSoftmax, ExpIsRightToTheLastBits) {
  std::vector<double> x = Spread(4001, 1400, 3);
  for (double& v : x) v = -std::abs(v);
  x.push_back(0);
  x.push_back(-1e-300);
  std::vector<double> out(x.size());
  const double sum = ExpAndSum(x.data(), static_cast<int64_t>(x.size()), 0, out.data());
  long double want = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const long double exact = std::exp(static_cast<long double>(x[i]));
    EXPECT_LE(std::abs(out[i] - exact), 0x1p-51L * exact) << x[i];
    want += exact;
  }
  EXPECT_NEAR(sum, static_cast<double>(want), 1e-12 * sum);
  const double small[] = {-1e6, -std::numeric_limits<double>::infinity()};
  double tiny[2];
  ExpAndSum(small, 2, 0, tiny);
  EXPECT_LT(tiny[0], 1e-307);
  EXPECT_LT(tiny[1], 1e-307);
}

TEST(LogSoftmax, ProbabilitiesAndDivergence) {
  for (const size_t size : {1U, 7U, 96U, 1003U}) {
    const auto l = Spread(size, 40, 1);
    const auto m = Spread(size, 40, 2);
    LogSoftmax a;
    LogSoftmax b;
    a.Load(Row(l).view(), 0);
    b.Load(Row(m).view(), 0);
    long double sum_a = 0;
    long double sum_b = 0;
    for (size_t i = 0; i < size; ++i) {
      sum_a += std::exp(static_cast<long double>(l[i]));
      sum_b += std::exp(static_cast<long double>(m[i]));
    }
    long double kld = 0;
    for (size_t i = 0; i < size; ++i) {
      const long double log_p = l[i] - std::log(sum_a);
      const long double log_q = m[i] - std::log(sum_b);
      EXPECT_NEAR(a.LogProbability(static_cast<int32_t>(i)), static_cast<double>(log_p), 1e-13);
      kld += std::exp(log_p) * (log_p - log_q);
    }
    EXPECT_NEAR(a.DivergenceTo(b), static_cast<double>(kld), 1e-13 * (1 + static_cast<double>(kld)));
    EXPECT_EQ(a.DivergenceTo(a), 0);
    EXPECT_EQ(a.best(), std::ranges::max_element(l) - l.begin());
  }
}

TEST(LogSoftmax, RefusesWhatIsNoDistribution) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  LogSoftmax row;
  EXPECT_THROW(row.Load(Row({0, std::nan("")}).view(), 0), Error);
  EXPECT_THROW(row.Load(Row({0, kInf}).view(), 0), Error);
  EXPECT_THROW(row.Load(Row({-kInf, -kInf}).view(), 0), Error);
  row.Load(Row({-kInf, 1}).view(), 0);
  EXPECT_EQ(row.LogProbability(1), 0);
  LogSoftmax other;
  other.Load(Row({-kInf, 2}).view(), 0);
  EXPECT_EQ(row.DivergenceTo(other), 0);
}

TEST(Moments, AgreeWithTheirDefinitions) {
  const auto x = Spread(101, 3, 5);
  const auto y = Spread(101, 3, 6);
  PairedMoments both;
  for (size_t i = 0; i < x.size(); ++i) both.Add(x[i], x[i] + 0.5 * y[i]);
  double mean = 0;
  double square = 0;
  for (const double v : x) mean += v / 101;
  for (const double v : x) square += (v - mean) * (v - mean);
  EXPECT_NEAR(both.a().mean(), mean, 1e-14);
  EXPECT_NEAR(both.a().standard_error(), std::sqrt(square / 100 / 101), 1e-14);
  EXPECT_GT(both.correlation(), 0.8);
  EXPECT_LT(both.correlation(), 1);
  PairedMoments same;
  for (const double v : x) same.Add(v, 2 * v + 1);
  EXPECT_NEAR(same.correlation(), 1, 1e-12);
  EXPECT_EQ(Percentile({1, 2, 4}, 50), 2);
  EXPECT_EQ(Percentile({1, 2, 4}, 75), 3);
  EXPECT_EQ(Percentile({1, 2, 4}, 100), 4);
}

}  // namespace
}  // namespace apr
