// Comparing where a side is quantised: sums of a run in f32, halves read where they lie.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "base/cpu_features.h"
#include "compare/element_diff.h"
#include "compare/test_values.h"
#include "quant/quant.h"

namespace apr {
namespace {

ElementDiff Quickly(const std::vector<float>& a, const std::vector<float>& b) {
  ElementDiff diff;
  QuickComparison quick(diff, RunType::kF32, RunType::kF32);
  for (size_t i = 0; i < a.size(); i += 256) {
    const size_t n = std::min<size_t>(256, a.size() - i);
    quick.Add(a.data() + i, b.data() + i, n, static_cast<int64_t>(i));
  }
  return diff;
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

void ExpectSameSums(const ElementDiff& x, const ElementDiff& y, double relative) {
  EXPECT_NEAR(x.sum_abs, y.sum_abs, relative * y.sum_abs);
  EXPECT_NEAR(x.sum_sq, y.sum_sq, relative * y.sum_sq);
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
  for (size_t i = 0; i < wave.size(); ++i) {
    coarse[i] = std::round(wave[i] * 200) / 200;
    if (i % 5 == 0) coarse[i] = wave[i];
    if (i % 1000 == 999) coarse[i] += 0.02f;
    large[i] = wave[i] * 1e12f;
  }
  for (const auto& pair : {std::pair{wave, coarse}, std::pair{constant, other}, std::pair{coarse, constant}, std::pair{large, wave}}) {
    const std::vector<float>&a = pair.first, &b = pair.second;
    const std::vector<ElementDiff> all = UnderEachIsa([&] { return Quickly(a, b); });
    for (const ElementDiff& one : all) {
      ExpectSameButSums(one, all[0]);
      ExpectSameSums(one, all[0], 0);
      ExpectSameButSums(one, Diff(a, b));
      ExpectSameSums(one, Defined(a, b), 1.2e-6);
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
  std::vector<float> wave = Wave(256 * 4 + 100), other = wave;
  for (size_t i = 0; i < wave.size(); ++i) other[i] = std::round(wave[i] * 100) / 100;
  wave[600] = kInf;
  wave[900] = 1e-7f;  // subnormal as F16
  for (const auto& [dtype, type] : {std::pair{DType::kF16, RunType::kF16}, std::pair{DType::kBF16, RunType::kBF16}}) {
    const Halves halves(dtype, wave);
    const auto compare = [&, type = type](bool first) {
      ElementDiff diff;
      QuickComparison quick(diff, first ? type : RunType::kF32, first ? RunType::kF32 : type);
      for (size_t i = 0; i < wave.size(); i += 256) {
        const void *half = halves.bytes.data() + 1 + 2 * i, *whole = other.data() + i;
        quick.Add(first ? half : whole, first ? whole : half, std::min<size_t>(256, wave.size() - i), static_cast<int64_t>(i));
      }
      return diff;
    };
    for (const bool first : {true, false}) {
      const ElementDiff expected = first ? Quickly(halves.widened, other) : Quickly(other, halves.widened);
      EXPECT_EQ(expected.inf_a + expected.inf_b, 1);
      for (const ElementDiff& one : UnderEachIsa([&] { return compare(first); })) {
        ExpectSameButSums(one, expected);
        ExpectSameSums(one, expected, 0);
      }
    }
  }
}

TEST(QuickComparison, WhatF32CannotHoldIsExact) {
  const std::vector<float> wave = Wave(512);
  const auto scaled = [&](float factor) {
    std::vector<float> out = wave;
    for (float& v : out) v *= factor;
    return out;
  };
  std::vector<float> hole = wave, pit = wave;
  hole[300] = kNan;
  pit[300] = kInf;
  const std::vector<float> none(wave.size(), 0.0f), tiny = scaled(1e-20f), huge = scaled(1e25f);
  const std::vector<std::pair<std::vector<float>, std::vector<float>>> pairs = {
      {tiny, scaled(1.01e-20f)}, {huge, scaled(1.01e25f)}, {scaled(1e38f), scaled(-1e38f)}, {wave, none}, {none, wave}, {none, none},
      {wave, wave},  {wave, huge}, {Wave(100), scaled(2)}, {hole, scaled(2)}, {scaled(2), pit}};
  for (const auto& pair : pairs) {
    const std::vector<float>& a = pair.first;
    std::vector<float> b = pair.second;
    b.resize(a.size());
    for (const ElementDiff& one : UnderEachIsa([&] { return Quickly(a, b); })) {
      ExpectSameButSums(one, Diff(a, b));
      // The first run of the last two is an ordinary one.
      const bool mixed = one.has_nonfinite_difference();
      ExpectSameSums(one, Diff(a, b), mixed ? 1.2e-6 : 0);
      ExpectSameSums(one, Defined(a, b), 1.2e-6);
    }
  }
}

}  // namespace
}  // namespace apr
