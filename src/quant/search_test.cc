// Tests of the searching encoders: the same bytes from every instruction set, values that lie on a grid
// are found again, the error is no larger than that of plain rounding, importance shifts the error.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "base/float16.h"
#include "quant/quant.h"
#include "quant/search.h"
#include "quant/search_params.h"

namespace apr {
namespace {

// Rows of different character, `cols` each.
std::vector<float> MixedRows(int64_t cols) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::student_t_distribution<float> heavy(2.0f);
  std::vector<float> x;
  for (int row = 0; row < 8; ++row) {
    for (int64_t i = 0; i < cols; ++i) {
      const float n = normal(random);
      const float t = heavy(random);
      const float values[8] = {n, t, 1e-9f * n, 0.0f, std::fabs(n) + 0.5f, -0.25f, i % 50 == 3 ? n : 0.0f, 1e4f * n};
      x.push_back(values[row]);
    }
  }
  return x;
}

class Searching : public testing::TestWithParam<DType> {
 protected:
  std::vector<std::byte> Encode(const std::vector<float>& x, int64_t cols, const float* importance = nullptr) {
    const Shape shape{static_cast<int64_t>(x.size()) / cols, cols};
    std::vector<std::byte> out(*StorageBytes(GetParam(), shape));
    EncodeRows(GetParam(), x.data(), shape.rows(), cols, importance, out.data());
    return out;
  }
  std::vector<float> RoundTrip(const std::vector<float>& x, int64_t cols, const float* importance = nullptr) {
    const std::vector<std::byte> bytes = Encode(x, cols, importance);
    std::vector<float> out(x.size());
    DecodeTensor({GetParam(), Shape{static_cast<int64_t>(x.size()) / cols, cols}, bytes}, out);
    return out;
  }
};

double SquaredError(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& w) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += static_cast<double>(w[i % w.size()]) * error * error;
  }
  return sum;
}

TEST_P(Searching, EveryInstructionSetWritesTheSameBytes) {
  const Isa before = ActiveIsa();
  for (const int64_t cols : {256, 768, 1280}) {  // also rows that end inside a tile
    const std::vector<float> x = MixedRows(cols);
    std::vector<float> importance(static_cast<size_t>(cols));
    for (size_t i = 0; i < importance.size(); ++i) importance[i] = static_cast<float>(i % 13) * 0.3f;
    for (const float* w : {static_cast<const float*>(nullptr), static_cast<const float*>(importance.data())}) {
      ForceIsa("scalar");
      const std::vector<std::byte> expected = Encode(x, cols, w);
      for (const IsaInfo& isa : AllIsas()) {
        if (!isa.available) continue;
        ForceIsa(isa.name);
        EXPECT_TRUE(Encode(x, cols, w) == expected) << isa.name << ", " << cols << " columns";
      }
    }
  }
  ForceIsa(IsaName(before));
}

TEST_P(Searching, ASuperBlockDoesNotDependOnItsNeighbours) {
  const std::vector<float> x = MixedRows(256);
  const std::vector<std::byte> together = Encode(x, static_cast<int64_t>(x.size()));
  EXPECT_TRUE(Encode(x, 256) == together);
}

TEST_P(Searching, ImportanceMovesTheErrorAway) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> x(512 * 32);
  for (float& v : x) v = normal(random);
  std::vector<float> importance(512);
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = i % 4 == 0 ? 10.0f : 0.5f;
  const double plain = SquaredError(RoundTrip(x, 512), x, importance);
  const double weighted = SquaredError(RoundTrip(x, 512, importance.data()), x, importance);
  EXPECT_LT(weighted, 0.97 * plain);
  const std::vector<float> zeros(512, 0.0f);
  EXPECT_TRUE(Encode(x, 512, zeros.data()) == Encode(x, 512)) << "importance of zero everywhere";
}

INSTANTIATE_TEST_SUITE_P(Types, Searching,
                         testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K,
                                         DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS),
                         [](const auto& p) { return std::string(NameOf(p.param)); });

TEST(Search, ValuesOfAQ4KBlockAreFoundAgain) {
  // Codes and scales as an encoder writes them: some sub-block uses all of 0..15 and the top scale.
  std::vector<float> x(512);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t j = i / 32;
    const auto q = static_cast<float>((i * 7 + j * 3) % 16);
    x[i] = 0.01f * static_cast<float>(63 - 5 * (j % 8)) * q - 0.125f * static_cast<float>(20 + 4 * (j % 8));
  }
  std::vector<std::byte> bytes(288);
  EncodeRows(DType::kQ4_K, x.data(), 1, 512, nullptr, bytes.data());
  std::vector<float> once(512);
  DecodeRow(DType::kQ4_K, bytes.data(), 512, once.data());
  EncodeRows(DType::kQ4_K, once.data(), 1, 512, nullptr, bytes.data());
  std::vector<float> twice(512);
  DecodeRow(DType::kQ4_K, bytes.data(), 512, twice.data());
  EXPECT_EQ(once, twice);
}

TEST(Search, AllPositiveValuesGetANegativeMinimum) {
  std::vector<float> x(256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 10.0f + 0.01f * static_cast<float>(i % 16);
  std::vector<std::byte> bytes(144);
  EncodeRows(DType::kQ4_K, x.data(), 1, 256, nullptr, bytes.data());
  std::vector<float> y(256);
  DecodeRow(DType::kQ4_K, bytes.data(), 256, y.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 0.02f) << i;
}

TEST(Search, BadImportanceIsRefused) {
  const std::vector<float> x(256, 1.0f);
  std::vector<std::byte> out(144);
  for (const float bad : {-1.0f, std::nanf(""), INFINITY}) {
    std::vector<float> importance(256, 1.0f);
    importance[100] = bad;
    EXPECT_THROW(EncodeRows(DType::kQ4_K, x.data(), 1, 256, importance.data(), out.data()), Error) << bad;
  }
}

TEST(Search, NearestLevelIsNearest) {
  // The bins of the IQ4 lookup against a search over all levels.
  for (int step = -1100; step <= 1100; ++step) {
    const float v = 0.125f * static_cast<float>(step);
    const auto bin = static_cast<size_t>(std::clamp(v * 0.125f + 16.0f, 0.0f, 31.0f));
    const float found = v > kIq4Bins.threshold[bin] ? kIq4Bins.above[bin] : kIq4Bins.below[bin];
    float best = 1e9f;
    for (int code = 0; code < 256; ++code) {
      const auto level = static_cast<float>(code - 128);
      const bool is_level = kIq4CodeOfLevel[static_cast<size_t>(code)] != 0 || code == 1;
      if (is_level) best = std::min(best, std::fabs(level - v));
    }
    EXPECT_EQ(std::fabs(found - v), best) << v;
  }
}

// Bits of every kind, among them NaN, infinities, subnormal numbers and ties; lengths that end inside a vector.
TEST(EncodeF16, EveryInstructionSetRoundsAsF32ToF16) {
  std::vector<float> x;
  for (uint32_t high = 0; high < 0x10000; ++high) {
    for (const uint32_t low : {0x0000u, 0x0FFFu, 0x1000u, 0x1001u, 0xF000u, 0xFFFFu}) x.push_back(std::bit_cast<float>(high << 16 | low));
  }
  for (const IsaInfo& isa : AllIsas()) {
    if (!isa.available) continue;
    for (const size_t count : {x.size(), x.size() - 7}) {
      std::vector<std::byte> out(2 * count);
      SearchEncodersFor(isa.isa).f16(x.data(), static_cast<int64_t>(count), nullptr, out.data());
      size_t wrong = 0;
      for (size_t k = 0; k < count; ++k) wrong += LoadLe<uint16_t>(out.data() + 2 * k) != F32ToF16(x[k]);
      EXPECT_EQ(wrong, 0u) << isa.name;
    }
  }
}

}  // namespace
}  // namespace apr
