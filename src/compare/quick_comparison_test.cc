// Comparing where a side is quantised: several runs at a time, halves read where they lie.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "base/cpu_features.h"
#include "compare/chunk_kernels.h"
#include "compare/element_diff.h"
#include "compare/test_values.h"
#include "quant/quant.h"

namespace apr {
namespace {

ElementDiff Quickly(const void* a, RunType type_a, const void* b, RunType type_b, int64_t count) {
  ElementDiff diff;
  float located = 0;
  QuickComparison quick(diff, type_a, type_b, located);
  const auto at = [](const void* from, RunType type, int64_t element) {
    return static_cast<const std::byte*>(from) + element * (type == RunType::kF32 ? 4 : 2);
  };
  for (int64_t first = 0; first < count; first += kQuickRuns * kChunk) {
    const void* left[kQuickRuns];
    const void* right[kQuickRuns];
    for (int r = 0; r < kQuickRuns; ++r) {
      left[r] = at(a, type_a, first + r * kChunk);
      right[r] = at(b, type_b, first + r * kChunk);
    }
    QuickStatistics statistics;
    quick.Add(left, right, std::min<int64_t>(kQuickRuns * kChunk, count - first), first, statistics);
  }
  return diff;
}
ElementDiff Quickly(const std::vector<float>& a, const std::vector<float>& b) {
  return Quickly(a.data(), RunType::kF32, b.data(), RunType::kF32, static_cast<int64_t>(a.size()));
}

void ExpectSameButSums(const ElementDiff& x, const ElementDiff& y) {
  EXPECT_EQ(x.count, y.count);
  EXPECT_EQ(x.identical, y.identical);
  EXPECT_EQ(x.small, y.small);
  EXPECT_EQ(x.medium, y.medium);
  EXPECT_EQ(x.large, y.large);
  EXPECT_EQ(x.finite, y.finite);
  EXPECT_EQ(x.nan_a, y.nan_a);
  EXPECT_EQ(x.inf_b, y.inf_b);
  EXPECT_EQ(x.first_nonfinite, y.first_nonfinite);
  EXPECT_EQ(x.max_abs, y.max_abs);
  EXPECT_EQ(x.max_index, y.max_index);
}

constexpr double kF64 = 1.2e-12;  // of 10240 terms added in turn, as the definition does
constexpr double kLeft = 0x1p-34;  // (a - b)^2 as what is left of the other sums: chunk_kernels.h
constexpr double kMeanInF32 = 2.1e-6;
// Within rounding of f64, but for sizes of differences, which add up in f32 within a run; `exactly`: the same bits.
void ExpectSameSums(const ElementDiff& x, const ElementDiff& y, bool exactly) {
  const double relative = exactly ? 0 : kF64;
  EXPECT_NEAR(x.sum_abs, y.sum_abs, (exactly ? 0 : kMeanInF32) * y.sum_abs);
  EXPECT_NEAR(x.sum_sq, y.sum_sq, (exactly ? 0 : kLeft) * y.sum_sq);
  EXPECT_NEAR(x.sum_aa, y.sum_aa, relative * y.sum_aa);
  EXPECT_NEAR(x.sum_bb, y.sum_bb, relative * y.sum_bb);
  EXPECT_NEAR(x.sum_ab, y.sum_ab, relative * std::sqrt(y.sum_aa * y.sum_bb));
}

// The definition, in f64, element by element.
ElementDiff Defined(const std::vector<float>& a, const std::vector<float>& b) {
  ElementDiff diff;
  Accumulate(diff, std::vector<double>(a.begin(), a.end()), std::vector<double>(b.begin(), b.end()), 0);
  return diff;
}

// For each instruction set of this machine: what `f` returns.
std::vector<ElementDiff> UnderEachIsa(const std::function<ElementDiff()>& f) {
  std::vector<ElementDiff> out;
  const Isa before = ActiveIsa();
  for (const IsaInfo& isa : AllIsas()) {
    if (!isa.available) continue;
    ForceIsa(isa.name);
    out.push_back(f());
  }
  ForceIsa(IsaName(before));
  return out;
}

TEST(QuickComparison, HasTheSameBitsEverywhereAndTheStatedError) {
  std::vector<float> wave = Wave(256 * 40), coarse = wave, constant(wave.size(), 0.1f), other(wave.size(), 0.3f), large = wave;
  std::vector<float> near = wave, beyond = wave, partly = wave;  // differences that sums of squares do not show, or hardly; runs that are equal among others
  for (size_t i = 0; i < wave.size(); ++i) {
    coarse[i] = std::round(wave[i] * 200) / 200;
    if (i % 5 == 0) coarse[i] = wave[i];
    if (i % 1000 == 999) coarse[i] += 0.02f;
    large[i] = wave[i] * 1e12f;
    near[i] = wave[i] * (1 + 0x1p-20f);
    beyond[i] = wave[i] * (1 + 0x1.7p-9f);
    if (i / 256 % 3 == 1) partly[i] = coarse[i];
  }
  for (const auto& pair : {std::pair{wave, coarse}, std::pair{constant, other}, std::pair{coarse, constant}, std::pair{large, wave},
                           std::pair{wave, near}, std::pair{wave, beyond}, std::pair{wave, partly}, std::pair{wave, wave}}) {
    const std::vector<float>&a = pair.first, &b = pair.second;
    const std::vector<ElementDiff> all = UnderEachIsa([&] { return Quickly(a, b); });
    for (const ElementDiff& one : all) {
      ExpectSameButSums(one, all[0]);
      ExpectSameSums(one, all[0], true);
      ExpectSameButSums(one, Diff(a, b));
      ExpectSameSums(one, Defined(a, b), false);
    }
  }
}

// `values` stored as `dtype`, at an odd address, and what that reads as.
struct Halves {
  explicit Halves(DType dtype, const std::vector<float>& values) : bytes(2 * values.size() + 1), widened(values.size()) {
    const auto count = static_cast<int64_t>(values.size());
    EncodeRows(dtype, values.data(), 1, count, nullptr, bytes.data() + 1);
    std::vector<std::byte> aligned(bytes.begin() + 1, bytes.end());
    DecodeTensor({dtype, Shape{1, count}, aligned}, widened);
  }
  std::vector<std::byte> bytes;
  std::vector<float> widened;
};

TEST(QuickComparison, HalvesReadWhereTheyLieAreTheirValues) {
  std::vector<float> wave = Wave(256 * 20 + 100), other = wave;
  for (size_t i = 0; i < wave.size(); ++i) other[i] = std::round(wave[i] * 100) / 100;
  wave[600] = kInf;
  wave[900] = 1e-7f;  // subnormal as F16
  for (const auto& [dtype, type] : {std::pair{DType::kF16, RunType::kF16}, std::pair{DType::kBF16, RunType::kBF16}}) {
    const Halves halves(dtype, wave);
    const auto compare = [&, type = type](bool first) {
      const auto count = static_cast<int64_t>(wave.size());
      const std::byte* half = halves.bytes.data() + 1;
      return first ? Quickly(half, type, other.data(), RunType::kF32, count) : Quickly(other.data(), RunType::kF32, half, type, count);
    };
    for (const bool first : {true, false}) {
      const ElementDiff expected = first ? Quickly(halves.widened, other) : Quickly(other, halves.widened);
      EXPECT_EQ(expected.inf_a + expected.inf_b, 1);
      for (const ElementDiff& one : UnderEachIsa([&] { return compare(first); })) {
        ExpectSameButSums(one, expected);
        ExpectSameSums(one, expected, true);
      }
    }
  }
}

// Parts that share what is located find the same worst element as one that has them all.
TEST(QuickComparison, PartsShareThePlaceOfTheWorst) {
  std::vector<float> a = Wave(256 * 40), b = a;
  for (size_t i = 0; i < b.size(); i += 7) b[i] += 1e-4f * static_cast<float>((i * 13) % 101);
  b[256 * 9 + 3] = a[256 * 9 + 3] + 1;
  b[256 * 30 + 5] = a[256 * 30 + 5] + 0.5f;
  ElementDiff merged;
  float located = 0;
  for (int64_t first = 0; first < 256 * 40; first += kQuickRuns * kChunk) {
    ElementDiff part;
    QuickComparison quick(part, RunType::kF32, RunType::kF32, located);
    const void* left[kQuickRuns];
    const void* right[kQuickRuns];
    for (int r = 0; r < kQuickRuns; ++r) {
      left[r] = a.data() + first + r * kChunk;
      right[r] = b.data() + first + r * kChunk;
    }
    QuickStatistics statistics;
    quick.Add(left, right, kQuickRuns * kChunk, first, statistics);
    MergeDiff(merged, part);
  }
  const ElementDiff all = Quickly(a, b);
  EXPECT_EQ(all.max_index, 256 * 9 + 3);
  ExpectSameButSums(merged, all);
}

TEST(SumParts, HasTheSameBitsEverywhere) {
  std::vector<float> a = Wave(256), b = a;
  for (size_t i = 0; i < b.size(); ++i) b[i] = std::round(a[i] * 50) / 50;
  for (const float odd : {0.0f, kInf, kNan}) {
    b[77] = odd;
    PartSums plain[kParts], one[kParts];
    SumParts(Isa::kScalar, a.data(), b.data(), 256, plain);
    EXPECT_GT(plain[0].sq, 0);
    EXPECT_EQ(std::isfinite(plain[2].sq), odd == 0) << "part 2 holds element 77";
    for (const IsaInfo& isa : AllIsas()) {
      if (!isa.available) continue;
      SumParts(isa.isa, a.data(), b.data(), 256, one);
      EXPECT_EQ(std::memcmp(one, plain, sizeof one), 0) << isa.name << " " << odd;
    }
  }
}

TEST(QuickComparison, AnyValuesHaveTheSumsOfTheDefinition) {
  const std::vector<float> wave = Wave(512);
  const auto scaled = [&](float factor) {
    std::vector<float> out = wave;
    for (float& v : out) v *= factor;
    return out;
  };
  std::vector<float> hole = wave, pit = wave;
  hole[300] = kNan;
  pit[300] = kInf;
  const std::vector<float> none(wave.size(), 0.0f), top(wave.size(), 1.5e38f), bottom(wave.size(), -1.5e38f), tiny = scaled(1e-20f), huge = scaled(1e25f);
  const std::vector<std::pair<std::vector<float>, std::vector<float>>> pairs = {
      {tiny, scaled(1.01e-20f)}, {huge, scaled(1.01e25f)}, {scaled(1e38f), scaled(-1e38f)}, {wave, none}, {none, wave}, {none, none},
      {wave, wave},  {wave, huge}, {Wave(100), scaled(2)}, {Wave(257), scaled(2)}, {hole, scaled(2)}, {scaled(2), pit},
      {top, bottom}};
  for (const auto& pair : pairs) {
    const std::vector<float>& a = pair.first;
    std::vector<float> b = pair.second;
    b.resize(a.size());
    for (const ElementDiff& one : UnderEachIsa([&] { return Quickly(a, b); })) {
      ExpectSameButSums(one, Diff(a, b));
      ExpectSameSums(Diff(a, b), Defined(a, b), false);
      ExpectSameSums(one, Defined(a, b), false);
    }
  }
}

}  // namespace
}  // namespace apr
