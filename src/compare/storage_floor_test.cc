// The figures of the storage floor against what they are defined as: the spacing of numbers of each type, the error that
// encoding makes, the mean over runs. Which pairs are explained: weight_search_test.cc.
#include "compare/storage_errors.h"
#include "compare/storage_floor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

ThreadPool& Pool() {
  static ThreadPool pool(2);
  return pool;
}

std::vector<float> Gaussian(int64_t count, float deviation = 0.04f, unsigned seed = 7) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(count));
  for (float& v : out) v = deviation * normal(random);
  return out;
}

WeightRef Stored(const std::vector<float>& values, int64_t cols, DType dtype = DType::kF32) {
  auto tensor = std::make_shared<Tensor>(dtype, Shape{std::ssize(values) / cols, cols});
  EncodeRows(dtype, values.data(), std::ssize(values) / cols, cols, nullptr, tensor->mutable_bytes().data());
  return {.view = tensor->view(), .owned = tensor};
}

StorageJudgement Judged(const WeightRef& a, const WeightRef& b) { return JudgeStorage(ValuesOf(a), ValuesOf(b), Pool()); }
StorageJudgement Judged(const std::vector<float>& a, const std::vector<float>& b, int64_t cols) { return Judged(Stored(a, cols), Stored(b, cols)); }

// Neighbouring numbers of a type are at most relative * |v| + absolute apart, some as far as the one or the other says, and
// none is larger than the largest.
TEST(StorageFloorFigures, PlainTypesHaveTheSpacingOfTheirNumbers) {
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    const auto bytes = static_cast<size_t>(InfoOf(dtype).block_bytes);
    std::vector<std::byte> codes;
    for (size_t code = 0; code < (bytes == 1 ? 0x80U : 0x8000U); ++code) {
      for (size_t i = 0; i < bytes; ++i) codes.push_back(static_cast<std::byte>(code >> (8 * i)));
    }
    std::vector<float> numbers(codes.size() / bytes);
    DecodeTensor({dtype, Shape{1, std::ssize(numbers)}, codes}, numbers);
    std::erase_if(numbers, [](float v) { return !std::isfinite(v); });
    std::ranges::sort(numbers);
    const PlainError error = *PlainErrorOf(dtype);
    EXPECT_LT(std::abs(error.largest / numbers.back() - 1), 1e-8) << NameOf(dtype);
    double relative = 0, absolute = 0;
    for (size_t i = 1; i < numbers.size(); ++i) {
      const double gap = static_cast<double>(numbers[i]) - numbers[i - 1];
      ASSERT_LE(gap, error.relative * numbers[i - 1] + std::max(error.absolute, 0x1p-133)) << NameOf(dtype) << " " << numbers[i];
      if (numbers[i - 1] >= std::max(error.absolute, 0x1p-133) / error.relative) relative = std::max(relative, gap / numbers[i - 1]);
      else absolute = absolute == 0 ? gap : absolute;
    }
    EXPECT_EQ(relative, error.relative) << NameOf(dtype);
    EXPECT_EQ(absolute, error.absolute == 0 ? 0x1p-133 : error.absolute) << NameOf(dtype);
  }
  EXPECT_FALSE(PlainErrorOf(DType::kQ8_0));
  EXPECT_EQ(PlainErrorOf(DType::kF32)->relative, 0);
  EXPECT_EQ(PlainErrorOf(DType::kF32)->absolute, 0);
}

// In rows of any length, by doing it; where a type has no encoder, its typical error.
TEST(StorageFloorFigures, TheErrorOfStoringIsThatOfTheEncoder) {
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_K, DType::kF16}) {
    for (const int64_t cols : {256, 512, 768}) {
      std::vector<float> values = Gaussian(3 * cols);
      values[0] = 1;  // the first element and the last count as the others do
      values.back() = 3;
      std::vector<float> decoded(values.size());
      const WeightRef stored = Stored(values, cols, dtype);
      DecodeTensor(stored.view, decoded);
      double sum = 0;
      for (size_t i = 0; i < values.size(); ++i) sum += std::pow(static_cast<double>(decoded[i]) - values[i], 2);
      const double expected = std::sqrt(sum / static_cast<double>(values.size()));
      EXPECT_NEAR(StorageError(dtype, values, cols), expected, 1e-9 * expected) << NameOf(dtype) << " " << cols;
    }
  }
  const std::vector<float> first = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.3f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_GT(StorageError(DType::kQ8_0, first, 32), 1e-5);
  ASSERT_FALSE(CanEncode(DType::kIQ1_S));
  const std::vector<float> values = Gaussian(1024, 2);
  double square = 0;
  for (const float v : values) square += static_cast<double>(v) * v;
  EXPECT_NEAR(StorageError(DType::kIQ1_S, values, 512), TypicalRelativeError(DType::kIQ1_S) * std::sqrt(square / 1024), 1e-6);
}

// A tensor against what this project's encoder made of it: the expected error is the one that is there, whatever part of
// the runs is looked at.
TEST(StorageFloorFigures, TheRatioOfASoundTensorIsOne) {
  for (const int64_t cols : {256, 1024}) {
    for (const int64_t rows : {1, 3, 200}) {
      const std::vector<float> values = Gaussian(rows * cols);
      const StorageJudgement judged = Judged(Stored(values, cols), Stored(values, cols, DType::kQ8_0));
      EXPECT_TRUE(judged.explained);
      EXPECT_NEAR(judged.ratio, 1, 1e-6);
      EXPECT_NEAR(judged.expected_rmse, judged.diff.rmse(), 0.02 * judged.diff.rmse()) << rows << " " << cols;
      EXPECT_NEAR(judged.floor(), judged.expected_rmse / judged.diff.rms_a(), 1e-9);
      EXPECT_EQ(judged.chunks, rows * cols / 256);
      EXPECT_EQ(judged.ratio_limit, 1.4);
      EXPECT_EQ(judged.kappa, 0);
    }
  }
  const std::vector<float> values = Gaussian(512);
  EXPECT_EQ(Judged(Stored(values, 512, DType::kQ4_K), Stored(values, 512)).ratio_limit, 1.7);
  EXPECT_EQ(Judged(Stored(values, 512, DType::kF16), Stored(values, 512)).ratio_limit, 2.2);
}

// Where every run is wrong the ratio is that of all of them.
TEST(StorageFloorFigures, ATensorThatIsWrongAllOverHasTheRatioOfItsError) {
  for (const int64_t rows : {1, 300}) {
    const std::vector<float> values = Gaussian(rows * 256);
    std::vector<float> halves = values;
    for (float& v : halves) v *= 0.5f;
    const StorageJudgement judged = Judged(Stored(values, 256), Stored(halves, 256, DType::kQ8_0));
    EXPECT_EQ(judged.bad_count, rows);
    EXPECT_EQ(std::ssize(judged.bad), rows);
    EXPECT_FALSE(judged.mean_explained);
    EXPECT_EQ(judged.slope_explained, rows == 1) << "256 values say little about a slope";
    EXPECT_NEAR(judged.slope, 0.5, 1e-3);
    EXPECT_NEAR(judged.ratio, 0.5 / TypicalRelativeError(DType::kQ8_0), 0.3 * judged.ratio);
  }
}

// Numbers of f32 may be a quarter of a millionth of the largest of their run apart: a tenth of that is what is expected.
TEST(StorageFloorFigures, TheRoundingOfF32) {
  std::vector<float> ones(2560, 1), other(ones);
  for (size_t i = 0; i < other.size(); i += 2) other[i] = 1 + 0x1p-23f;
  const StorageJudgement judged = Judged(ones, other, 256);
  EXPECT_TRUE(judged.explained);
  EXPECT_NEAR(judged.expected_rmse, 0.1 * 0x1p-22, 1e-3 * 0x1p-22);
  EXPECT_NEAR(judged.ratio, std::sqrt(0.5) * 0x1p-23 / (0.1 * 0x1p-22), 0.01);
  EXPECT_NEAR(judged.floor(), judged.expected_rmse, 1e-3 * judged.expected_rmse);
}

TEST(StorageFloorFigures, NothingAgainstSomething) {
  const std::vector<float> zeros(512), some = Gaussian(512);
  const StorageJudgement judged = Judged(zeros, some, 256);
  EXPECT_FALSE(judged.explained);
  EXPECT_TRUE(std::isinf(judged.ratio));
  EXPECT_EQ(judged.floor(), 0);
  EXPECT_EQ(judged.slope, 1);
  // One wrong element: the other runs do not differ at all.
  std::vector<float> one = some;
  one[300] += 1;
  const StorageJudgement single = Judged(some, one, 256);
  EXPECT_EQ(single.ratio, 0);
  ASSERT_EQ(single.bad_count, 1);
  EXPECT_EQ(single.bad[0].index, 1);
  EXPECT_TRUE(single.mean_explained);
  EXPECT_FALSE(single.explained);
  EXPECT_TRUE(Judged(some, some, 256).mean_explained);
}

// A factor shows in the slope however small the values are, and what is no number has none.
TEST(StorageFloorFigures, TheSlopeOfSmallValues) {
  for (const float size : {1e-4f, 0.04f, 3.0f}) {
    const std::vector<float> values = Gaussian(256 * 400, size);
    std::vector<float> more = values;
    for (float& v : more) v *= 1.01f;
    const StorageJudgement judged = Judged(Stored(values, 256), Stored(more, 256, DType::kQ8_0));
    EXPECT_NEAR(judged.slope, 1.01, 2e-3) << size;
    EXPECT_FALSE(judged.slope_explained) << size;
    EXPECT_FALSE(judged.mean_explained) << size;
    EXPECT_TRUE(Judged(Stored(values, 256), Stored(values, 256, DType::kQ8_0)).slope_explained) << size;
    EXPECT_GT(judged.floor(), 1e-3) << size;
    more[5] = NAN;
    EXPECT_TRUE(Judged(Stored(values, 256, DType::kQ8_0), Stored(more, 256)).slope_explained) << size;
  }
}

// A damaged element stands above the limit of its run, everything sound below it.
TEST(StorageFloorFigures, TheLimitOfABadRunLiesBetweenSoundAndDamaged) {
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_K, DType::kF16, DType::kF32}) {
    const std::vector<float> values = Gaussian(256 * 8);
    const WeightRef stored = Stored(values, 256, dtype);
    std::vector<float> decoded(values.size());
    DecodeTensor(stored.view, decoded);
    for (const size_t at : {3 * 256 + 17, 3 * 256, 3 * 256 + 255}) {
      std::vector<float> damaged = values;
      damaged[at] += 2;
      const StorageJudgement judged = Judged(Stored(damaged, 256), stored);
      ASSERT_EQ(judged.bad_count, 1) << NameOf(dtype);
      EXPECT_EQ(judged.bad[0].index, 3);
      double sound = 0;
      for (size_t i = 3 * 256; i < 4 * 256; ++i) {
        const double limit = judged.bad[0].limit + judged.kappa * std::abs(damaged[i]);
        const double off = std::abs(static_cast<double>(damaged[i]) - decoded[i]);
        EXPECT_EQ(off > limit, i == at) << NameOf(dtype) << " " << i;
        if (i != at) sound = std::max(sound, off);
      }
      EXPECT_GE(judged.bad[0].limit + judged.kappa, sound);
    }
  }
}

// A run of one element is a run.
TEST(StorageFloorFigures, TheLastElementOfAllIsCompared) {
  for (const int64_t cols : {257, 1}) {
    const std::vector<float> values = Gaussian(257);
    std::vector<float> damaged = values;
    damaged.back() += 1;
    const StorageJudgement judged = Judged(values, damaged, cols);
    EXPECT_EQ(judged.chunks, 2);
    ASSERT_EQ(judged.bad_count, 1);
    EXPECT_EQ(judged.bad[0].index, 1);
    EXPECT_EQ(judged.diff.max_index, 256);
  }
}

}  // namespace
}  // namespace apr
