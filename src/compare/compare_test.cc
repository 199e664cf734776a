// Tests of src/compare: each rule of the comparers is shown to fail by a planted fault.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/json.h"
#include "base/temp_folder.h"
#include "compare/diff_html.h"
#include "compare/element_diff.h"
#include "compare/stage_diff.h"
#include "compare/storage_errors.h"
#include "compare/storage_floor.h"
#include "compare/structure_diff.h"
#include "compare/test_values.h"
#include "compare/weight_diff.h"
#include "model/model.h"
#include "quant/quant.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

TEST(ElementDiff, SeesEveryKindOfDifference) {
  EXPECT_TRUE(Diff({1, 2}, {1, 2}).is_identical());
  EXPECT_TRUE(Diff({0.0f}, {-0.0f}).is_identical());
  EXPECT_FALSE(Diff({}, {}).is_identical()) << "nothing compared is no agreement";
  EXPECT_TRUE(Diff({}, {}).ToJson().at("cosine_similarity").is_null()) << "no cosine of nothing";
  for (const auto& [a, b] : std::vector<std::pair<float, float>>{{kNan, 1}, {1, kNan}, {kNan, kNan}, {kInf, 1}, {1, -kInf}, {kInf, -kInf}}) {
    const ElementDiff diff = Diff({5, a}, {5, b});
    EXPECT_TRUE(diff.has_nonfinite_difference()) << a << " " << b;
    EXPECT_TRUE(std::isinf(diff.nmse()));
    EXPECT_EQ(diff.max_index, 1);
  }
  EXPECT_TRUE(Diff({kInf}, {kInf}).is_identical());
  EXPECT_EQ(Diff({-5, 3}, {-1, 3}).max_abs, 4) << "both negative";
  EXPECT_EQ(Diff({2}, {-2}).cosine(), -1) << "sign flip";
  EXPECT_TRUE(std::isinf(Diff({0}, {1}).nmse())) << "zero reference";
  EXPECT_EQ(Diff({0}, {1}).cosine(), 0);
}

TEST(ElementDiff, NamesTheWorstCoordinateInLongStreams) {
  for (const size_t at : {size_t{0}, size_t{4095}, size_t{4096}, size_t{9999}}) {
    const std::vector<float> a = Wave(10000);
    std::vector<float> b = a;
    b[at] += 0.5f;
    b[at == 0 ? 7 : at - 1] += 0.25f;
    const ElementDiff diff = Diff(a, b);
    EXPECT_EQ(diff.max_index, static_cast<int64_t>(at));
    EXPECT_EQ(diff.identical, 9998);
    EXPECT_EQ(diff.large, 2);
    b[at] = kNan;
    EXPECT_EQ(Diff(a, b).first_nonfinite, static_cast<int64_t>(at));
  }
}

// Streams of either type: the limits of small and medium, the first of several places, the ends of a row.
template <typename Real>
void CheckRules() {
  const auto diff = [](const std::vector<Real>& a, const std::vector<Real>& b) {
    ElementDiff out;
    Accumulate(out, std::span<const Real>(a), std::span<const Real>(b), 0);
    return out;
  };
  const ElementDiff sizes = diff({0, 0, 0, 0, 0}, {Real(0.0009), Real(0.0012), Real(0.009), Real(0.012), 0});
  EXPECT_EQ(sizes.small, 1);
  EXPECT_EQ(sizes.medium, 2);
  EXPECT_EQ(sizes.large, 1);
  EXPECT_EQ(sizes.identical, 1);
  EXPECT_EQ(diff({kNan, 1, kNan}, {1, 1, 1}).first_nonfinite, 0) << "the first, also where that is 0";
  EXPECT_EQ(diff({1}, {0.5}).nmse(), 0.25) << "a sum of squares that is 1";
  const Json at_zero = diff({1, 2}, {3, 2}).ToJson();
  EXPECT_EQ(at_zero.at("a_at_max"), 1) << "the worst place is index 0";
  EXPECT_EQ(at_zero.at("b_at_max"), 3);
  const Json nowhere = diff({1, 2}, {1, 2}).ToJson();
  EXPECT_TRUE(nowhere.at("a_at_max").is_null());
  EXPECT_TRUE(nowhere.at("b_at_max").is_null());
  const ElementDiff last = diff({1, 2, 3}, {1, 2, -3});
  EXPECT_EQ(last.max_index, 2);
  EXPECT_EQ(last.max_abs, 6);
}

TEST(ElementDiff, RulesHoldForBothTypes) {
  CheckRules<float>();
  CheckRules<double>();
}

TEST(ElementDiff, FiguresAreTheirFormulas) {
  const ElementDiff one = Diff({3}, {1}), four = Diff({3, 4, 0, 0}, {1, 4, 0, 0}), none = Diff({}, {});
  EXPECT_EQ(one.mean_abs(), 2);
  EXPECT_EQ(one.rmse(), 2);
  EXPECT_EQ(one.rms_a(), 3);
  EXPECT_EQ(four.mean_abs(), 0.5);
  EXPECT_EQ(four.rmse(), 1);
  EXPECT_EQ(four.rms_a(), 2.5);
  for (const double figure : {none.mean_abs(), none.rmse(), none.rms_a()}) EXPECT_EQ(figure, 0);
  EXPECT_EQ(Diff({0}, {0}).cosine(), 1);
  EXPECT_EQ(Diff({1}, {0}).cosine(), 0);
  EXPECT_EQ(Diff({2}, {0}).cosine(), 0);
  EXPECT_NEAR(Diff({1, 0}, {1, 1}).cosine(), std::sqrt(0.5), 1e-15);
  EXPECT_EQ(Diff({1, 2}, {3, 2}).ToJson().at("max_diff_index"), 0);
  EXPECT_TRUE(Diff({1, 2}, {1, 2}).ToJson().at("max_diff_index").is_null());
}

TEST(ElementDiff, LimitsBelongToTheLargerSideAndTheFirstOfEqualsIsWorst) {
  const std::vector<double> zeros(2, 0.0), limits = {0.001, 0.01}, a = {1, 5, 2, 7}, b = {3, 5, 4, 7};
  ElementDiff sizes, ties;
  Accumulate(sizes, std::span<const double>(zeros), std::span<const double>(limits), 0);
  EXPECT_EQ(sizes.small, 0);
  EXPECT_EQ(sizes.medium, 1);
  EXPECT_EQ(sizes.large, 1);
  Accumulate(ties, std::span<const double>(a), std::span<const double>(b), 0);
  EXPECT_EQ(ties.max_index, 0);
}

TEST(ElementDiff, PiecesMergeToTheWhole) {
  const std::vector<float> a = Wave(9000);
  std::vector<float> b = a;
  for (size_t i = 0; i < b.size(); i += 3) b[i] *= 1.01f;
  ElementDiff first, second;
  Accumulate(first, std::span(a).first(5000), std::span(b).first(5000), 0);
  Accumulate(second, std::span(a).subspan(5000), std::span(b).subspan(5000), 5000);
  MergeDiff(first, second);
  const ElementDiff whole = Diff(a, b);
  EXPECT_EQ(first.max_index, whole.max_index);
  EXPECT_EQ(first.identical, whole.identical);
  EXPECT_NEAR(first.sum_sq, whole.sum_sq, 1e-12 * whole.sum_sq);
  ElementDiff holes = Diff({kNan, 2}, {1, 2}), later;
  Accumulate(later, std::vector<float>{kNan}, std::vector<float>{1}, 300);
  MergeDiff(holes, later);
  EXPECT_EQ(holes.first_nonfinite, 0);
  MergeDiff(later, Diff({1}, {1}));
  EXPECT_EQ(later.first_nonfinite, 300);
  ElementDiff none;
  MergeDiff(none, Diff({1, 2}, {3, 2}));
  EXPECT_EQ(none.max_index, 0) << "into an empty one";
}

void WriteRun(const std::string& path, std::vector<int64_t> ids, float planted) {
  StageManifest manifest{.engine = "test", .ids = std::move(ids)};
  manifest.precision = {"f32", "f32", "f32"};
  StageDirectoryWriter writer(path, manifest, Overwrite::kAllow);
  for (uint32_t layer = 0; layer < 3; ++layer) {
    for (const char* stage : {"attn_norm", "attention", "ffn_out"}) {
      std::vector<float> values = Wave(24);
      if (layer >= 1 && (layer > 1 || std::strcmp(stage, "attn_norm") != 0)) values[13] += planted;
      writer.Write({layer, stage}, Shape{4, 6}, values);
    }
  }
  writer.Write({kWholeModel, "lm_head"}, Shape{4, 6}, Wave(24));
  writer.Finish();
}

TEST(StageDiff, FindsTheFirstDifferenceInCausalOrder) {
  const TempFolder folder("compare-test");
  WriteRun(folder / "a", {1, 2, 3, 4}, 0);
  WriteRun(folder / "b", {1, 2, 3, 4}, 0.5f);
  const StageDirectoryDiff diff = DiffStageDirectories(folder / "a", folder / "b", std::nullopt);
  ASSERT_GE(diff.first, 0);
  const StageRow& row = diff.rows[static_cast<size_t>(diff.first)];
  EXPECT_EQ(row.name, "layer-1/attention");
  EXPECT_EQ(diff.Coordinate(row), (std::vector<int64_t>{2, 1}));
  EXPECT_FALSE(diff.agree());
  EXPECT_TRUE(DiffStageDirectories(folder / "a", folder / "a", 0.0).agree());
  EXPECT_NE(StageDiffHtml(diff).find("layer-1/attention"), std::string::npos);
}

TEST(StageDiff, OtherIdsMissingFilesAndNaNAreNoAgreement) {
  const TempFolder folder("compare-test");
  WriteRun(folder / "a", {1, 2, 3, 4}, 0);
  WriteRun(folder / "ids", {1, 2, 3, 5}, 0);
  EXPECT_FALSE(DiffStageDirectories(folder / "a", folder / "ids", std::nullopt).agree());
  WriteRun(folder / "nan", {1, 2, 3, 4}, kNan);
  EXPECT_FALSE(DiffStageDirectories(folder / "a", folder / "nan", 1e9).agree());
  WriteRun(folder / "gone", {1, 2, 3, 4}, 0);
  fs::remove(folder / "gone/layer-1/ffn_out.bin");
  const StageDirectoryDiff gone = DiffStageDirectories(folder / "a", folder / "gone", std::nullopt);
  EXPECT_FALSE(gone.agree());
  EXPECT_EQ(gone.rows[static_cast<size_t>(gone.first)].name, "layer-1/ffn_out");
  EXPECT_FALSE(gone.rows[static_cast<size_t>(gone.first)].problem.empty());
}

TEST(StageDiff, FilesOfOtherLayersOrSizesAreRefused) {
  const TempFolder folder("compare-test");
  const std::vector<float> values = {1, 2, 3};
  WriteStageFile(folder / "a.bin", 0, values, Overwrite::kAllow);
  WriteStageFile(folder / "b.bin", 1, values, Overwrite::kAllow);
  WriteStageFile(folder / "c.bin", 0, std::span(values).first(2), Overwrite::kAllow);
  EXPECT_THROW(DiffStageFiles(folder / "a.bin", folder / "b.bin", 3), Error);
  EXPECT_THROW(DiffStageFiles(folder / "a.bin", folder / "c.bin", 3), Error);
  const std::vector<float> other = {1, 2.5f, 2};
  WriteStageFile(folder / "d.bin", 0, other, Overwrite::kAllow);
  const StageFileDiff diff = DiffStageFiles(folder / "a.bin", folder / "d.bin", 2);
  ASSERT_EQ(diff.top.size(), 2u);
  EXPECT_EQ(diff.top[0].index, 2);
  EXPECT_EQ(diff.top[1].index, 1);
  EXPECT_EQ(diff.ToJson()["max_abs_diff_index"], 2);
}

// A pair of weights made of `a` and of `b` stored as `dtype`.
WeightPair Pair(const std::vector<float>& a, const std::vector<float>& b, DType dtype, int64_t cols, std::vector<std::byte>& storage) {
  const Shape shape{static_cast<int64_t>(a.size()) / cols, cols};
  storage.resize(*StorageBytes(dtype, shape));
  EncodeRows(dtype, b.data(), shape[0], cols, nullptr, storage.data());
  WeightPair pair{"w", "w", "w", {}, {}};
  pair.a.view = {DType::kF32, shape, {reinterpret_cast<const std::byte*>(a.data()), a.size() * 4}};
  pair.b.view = {dtype, shape, storage};
  return pair;
}

TEST(WeightDiff, QuantisationIsExplainedAndFaultsAreNot) {
  ThreadPool pool(2);
  const std::vector<float> a = Wave(64 * 512);
  std::vector<std::byte> storage;
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0}) {
    EXPECT_EQ(CompareWeights(Pair(a, a, dtype, 512, storage), false, pool).verdict, WeightVerdict::kExplained) << NameOf(dtype);
    std::vector<float> scaled = a;
    for (float& v : scaled) v *= 1.3f;
    EXPECT_EQ(CompareWeights(Pair(a, scaled, dtype, 512, storage), false, pool).verdict, WeightVerdict::kDifferent) << NameOf(dtype);
    std::vector<float> rolled(a.begin() + 512, a.end());
    rolled.insert(rolled.end(), a.begin(), a.begin() + 512);
    EXPECT_EQ(CompareWeights(Pair(a, rolled, dtype, 512, storage), false, pool).verdict, WeightVerdict::kDifferent) << NameOf(dtype);
    std::vector<float> speck = a;
    speck[700] = 9;
    EXPECT_EQ(CompareWeights(Pair(a, speck, dtype, 512, storage), false, pool).verdict, WeightVerdict::kDifferent) << NameOf(dtype);
  }
  const WeightRow same = CompareWeights(Pair(a, a, DType::kF32, 512, storage), false, pool);
  EXPECT_EQ(same.verdict, WeightVerdict::kIdentical);
  std::vector<float> nudged = a;
  nudged[5] = std::nextafter(nudged[5], 1.0f);
  EXPECT_EQ(CompareWeights(Pair(a, nudged, DType::kF32, 512, storage), false, pool).verdict, WeightVerdict::kExplained) << "rounding of f32";
  nudged[5] += 1e-6f;
  EXPECT_EQ(CompareWeights(Pair(a, nudged, DType::kF32, 512, storage), false, pool).verdict, WeightVerdict::kDifferent);
}

// One element of A that is 0 and d in B; the rest equal.
TEST(WeightDiff, TheStatusFollowsTheLargestDifference) {
  ThreadPool pool(1);
  std::vector<std::byte> storage;
  for (const auto& [d, status] : std::vector<std::pair<float, const char*>>{{0, "Identical"}, {0.0009f, "NearlyIdentical"}, {0.0012f, "SmallDiff"},
                                                                            {0.009f, "SmallDiff"}, {0.012f, "MediumDiff"}, {0.09f, "MediumDiff"},
                                                                            {0.12f, "LargeDiff"}, {0.9f, "LargeDiff"}, {1, "Critical"}, {1.2f, "Critical"}}) {
    std::vector<float> a = Wave(512), b = a;
    a[70] = 0, b[70] = d;
    EXPECT_EQ(CompareWeights(Pair(a, b, DType::kF32, 512, storage), false, pool).status, status) << d;
  }
}

TEST(WeightDiff, TheExplanationSaysWhichRuleFailed) {
  ThreadPool pool(1);
  std::vector<std::byte> storage;
  const std::vector<float> a = Wave(64 * 512);
  const auto said = [&](const std::function<void(std::vector<float>&)>& change, DType dtype) {
    std::vector<float> b = a;
    change(b);
    return CompareWeights(Pair(a, b, dtype, 512, storage), false, pool);
  };
  EXPECT_EQ(said([](auto&) {}, DType::kF32).explanation, "every element is equal");
  const WeightRow speck = said([](auto& b) { b[700] = 9; }, DType::kF16);
  EXPECT_NE(speck.explanation.find("1 of 128 runs of 256"), std::string::npos) << speck.explanation;
  EXPECT_EQ(speck.bad_runs, 1);
  EXPECT_EQ(speck.Coordinate(), (std::vector<int64_t>{1, 188}));
  const WeightRow hole = said([](auto& b) { b[700] = kNan; }, DType::kF32);
  EXPECT_EQ(hole.explanation, "NaN or infinity: 0 and 0 in A, 1 and 0 in B");
  EXPECT_TRUE(std::isinf(hole.ratio));
  const WeightRow all = said([](auto& b) { for (float& v : b) v *= 1.5f; }, DType::kQ8_0);
  EXPECT_NE(all.explanation.find("x the error these types must have"), std::string::npos) << all.explanation;
  EXPECT_GT(all.ratio, 10);
  EXPECT_EQ(all.explanation.find("on the whole"), std::string::npos) << "the size of the errors says enough";
  const WeightRow little = said([](auto& b) { for (float& v : b) v *= 1.015f; }, DType::kQ6_K);
  EXPECT_NE(little.explanation.find("B is 1.015 x A on the whole"), std::string::npos) << little.explanation;
}

TEST(WeightDiff, CoordinatesGoRowByRowThroughEveryDim) {
  WeightRow row;
  EXPECT_TRUE(row.Coordinate().empty()) << "nothing differs";
  row.shape_a = {4, 3, 5};
  row.diff.max_index = 2 * 15 + 1 * 5 + 4;
  EXPECT_EQ(row.Coordinate(), (std::vector<int64_t>{2, 1, 4}));
  row.diff.max_index = 0;
  EXPECT_EQ(row.Coordinate(), (std::vector<int64_t>{0, 0, 0}));
}

TEST(WeightDiff, AgreementNeedsEveryTensorOnBothSides) {
  WeightDiff diff;
  EXPECT_FALSE(diff.agree()) << "nothing was compared";
  diff.rows.emplace_back().verdict = WeightVerdict::kIdentical;
  diff.rows.emplace_back().verdict = WeightVerdict::kExplained;
  EXPECT_TRUE(diff.agree());
  diff.only_a = {"w"};
  EXPECT_FALSE(diff.agree());
  diff.only_a.clear();
  diff.only_b = {"w"};
  EXPECT_FALSE(diff.agree());
  diff.only_b.clear();
  for (const WeightVerdict verdict : {WeightVerdict::kDifferent, WeightVerdict::kShape, WeightVerdict::kTransposed}) {
    diff.rows.back().verdict = verdict;
    EXPECT_FALSE(diff.agree()) << WeightVerdictName(verdict);
  }
}

// Each limit of storage_floor.cc from both sides, on Gaussian values: even noise all over, one element, 32 elements.
TEST(WeightDiff, LimitsHoldOnBothSides) {
  constexpr size_t kCols = 512;
  ThreadPool pool(1);
  std::mt19937 random(17);
  std::normal_distribution<float> gauss;
  std::vector<float> a(64 * kCols), noise(a.size());
  for (float& v : a) v = 0.05f * gauss(random);
  std::uniform_real_distribution<float> even(-1.732f, 1.732f);
  for (float& v : noise) v = even(random);
  std::vector<std::byte> storage;
  const auto explained = [&](DType dtype, const std::vector<float>& b) {
    return CompareWeights(Pair(a, b, dtype, kCols, storage), false, pool).verdict == WeightVerdict::kExplained;
  };
  for (const auto& [dtype, limit] : {std::pair{DType::kQ8_0, 1.4}, std::pair{DType::kQ6_K, 1.7}, std::pair{DType::kQ4_K, 1.7}, std::pair{DType::kQ5_0, 1.7}}) {
    const double cost = StorageError(dtype, a, kCols);
    for (const double times : {0.85 * limit, 1.2 * limit}) {  // of what storing costs, its own error included
      std::vector<float> b = a;
      for (size_t i = 0; i < b.size(); ++i) b[i] += static_cast<float>(cost * std::sqrt(times * times - 1)) * noise[i];
      EXPECT_EQ(explained(dtype, b), times < limit) << NameOf(dtype) << " " << times;
    }
  }
  const double cost = StorageError(DType::kQ8_0, a, kCols);
  for (const double times : {4.0, 8.4}) {
    std::vector<float> b = a;
    b[9000] += static_cast<float>(cost * times);
    EXPECT_EQ(explained(DType::kQ8_0, b), times < 6) << "one element, " << times;
  }
  for (const double times : {2.5, 4.4}) {
    std::vector<float> b = a;
    for (size_t i = 0; i < 32; ++i) b[9024 + i] += static_cast<float>((i % 2 == 0 ? cost : -cost) * times);
    EXPECT_EQ(explained(DType::kQ8_0, b), times < 3.5) << "32 elements, " << times;
  }
}

TEST(WeightDiff, SwappedShapes) {
  ThreadPool pool(1);
  const std::vector<float> a = Wave(6 * 4);
  std::vector<float> turned(a.size());
  for (size_t r = 0; r < 6; ++r) {
    for (size_t c = 0; c < 4; ++c) turned[c * 6 + r] = a[r * 4 + c];
  }
  const auto pair = [](const std::vector<float>& x, Shape sx, const std::vector<float>& y, Shape sy) {
    WeightPair out{"w", "w", "w", {}, {}};
    out.a.view = {DType::kF32, sx, {reinterpret_cast<const std::byte*>(x.data()), x.size() * 4}};
    out.b.view = {DType::kF32, sy, {reinterpret_cast<const std::byte*>(y.data()), y.size() * 4}};
    return out;
  };
  EXPECT_EQ(CompareWeights(pair(a, {6, 4}, a, {4, 6}), false, pool).verdict, WeightVerdict::kTransposed);
  EXPECT_EQ(CompareWeights(pair(a, {6, 4}, turned, {4, 6}), false, pool).verdict, WeightVerdict::kDifferent);
  EXPECT_EQ(CompareWeights(pair(a, {6, 4}, turned, {4, 6}), true, pool).verdict, WeightVerdict::kTransposed);
  EXPECT_EQ(CompareWeights(pair(a, {6, 4}, a, {3, 8}), true, pool).verdict, WeightVerdict::kShape);
  const WeightRow turned_row = CompareWeights(pair(a, {6, 4}, turned, {4, 6}), true, pool), linear = CompareWeights(pair(a, {6, 4}, a, {4, 6}), true, pool);
  EXPECT_EQ(turned_row.status, "Transposed");
  EXPECT_EQ(turned_row.explanation, "B is the transpose of A");
  EXPECT_EQ(turned_row.diff.count, 24);
  EXPECT_EQ(linear.explanation, "the same values in the same order under swapped dims");
  const WeightRow apart = CompareWeights(pair(a, {6, 4}, Wave(48), {8, 6}), true, pool), other = CompareWeights(pair(a, {6, 4}, turned, {4, 6}), false, pool);
  EXPECT_EQ(apart.verdict, WeightVerdict::kShape);
  EXPECT_EQ(apart.status, "Critical");
  std::vector<float> high = a;
  high[9] += 2;
  EXPECT_EQ(CompareWeights(pair(a, {6, 4}, high, {4, 6}), false, pool).Coordinate(), (std::vector<int64_t>{2, 1}));
  std::vector<float> high_turned = turned;
  high_turned[1 * 6 + 2] += 2;  // of A row 2, column 1
  EXPECT_EQ(CompareWeights(pair(a, {6, 4}, high_turned, {4, 6}), true, pool).Coordinate(), (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(CompareWeights(pair({1}, {1}, {1}, {1}), false, pool).verdict, WeightVerdict::kIdentical) << "one element is something";
  EXPECT_EQ(CompareWeights(pair({1}, {1}, {1}, {1}), false, pool).status, "Identical");
  EXPECT_EQ(other.explanation, "shape [6, 4] against [4, 6], and the values differ in linear order");
  EXPECT_EQ(CompareWeights(pair({}, {0, 4}, {}, {0, 4}), true, pool).explanation, "holds no elements: nothing was compared");
  std::vector<float> scratched = a;  // one element of 24 is more than one in a hundred
  scratched[7] += 1;
  EXPECT_EQ(CompareWeights(pair(a, {6, 4}, scratched, {4, 6}), true, pool).verdict, WeightVerdict::kDifferent);
}

TEST(WeightDiff, ModelsAgainstThemselvesAndEachOther) {
  const std::string folder = APR_SOURCE_DIR "/testdata/model/";
  ThreadPool pool(2);
  const auto llama = ModelFile::Open(folder + "llama");
  const WeightDiff same = DiffWeights(PairWeights(llama, ModelFile::Open(folder + "llama")), {}, pool);
  EXPECT_TRUE(same.agree());
  EXPECT_EQ(same.basis, "slots of llama");
  EXPECT_TRUE(DiffStructure(PairWeights(llama, llama)).differences.empty());
  const WeightPairs other = PairWeights(llama, ModelFile::Open(folder + "qwen2"));
  EXPECT_FALSE(DiffWeights(other, {}, pool).agree());
  EXPECT_FALSE(DiffStructure(other).differences.empty());
  WeightDiffOptions nothing;
  nothing.filter = "no such tensor";
  EXPECT_FALSE(DiffWeights(PairWeights(llama, llama), nothing, pool).agree()) << "nothing compared is no agreement";
  EXPECT_NE(WeightDiffHtml(same).find("model.embed_tokens.weight"), std::string::npos);
}

TEST(WeightDiff, AThresholdTurnsExplainedRowsAndNoOthers) {
  ThreadPool pool(1);
  const std::vector<float> a = Wave(8 * 256);
  std::vector<float> far = a;
  for (float& v : far) v *= -1;
  std::vector<std::byte> quantised, negated;
  const auto file = ModelFile::Open(APR_SOURCE_DIR "/testdata/model/llama");
  WeightPairs pairs = PairWeights(file, file);
  pairs.pairs = {Pair(a, a, DType::kQ8_0, 256, quantised), Pair(a, far, DType::kF32, 256, negated)};
  WeightDiffOptions options;
  options.threshold = 0.9;
  const WeightDiff loose = DiffWeights(pairs, options, pool);
  EXPECT_EQ(loose.rows[0].verdict, WeightVerdict::kExplained);
  EXPECT_EQ(loose.rows[1].explanation.find("cosine"), std::string::npos) << loose.rows[1].explanation;
  options.threshold = 1.1;
  const WeightDiff strict = DiffWeights(pairs, options, pool);
  EXPECT_EQ(strict.rows[0].verdict, WeightVerdict::kDifferent);
  EXPECT_NE(strict.rows[0].explanation.find("cosine"), std::string::npos);
}

TEST(WeightDiff, AFilterAndALimitChooseRows) {
  ThreadPool pool(1);
  const std::string path = APR_SOURCE_DIR "/testdata/model/llama";
  const WeightPairs pairs = PairWeights(ModelFile::Open(path), ModelFile::Open(path));
  const auto rows = [&](const std::string& filter, int64_t limit) {
    WeightDiffOptions options;
    options.filter = filter;
    options.limit = limit;
    return DiffWeights(pairs, options, pool).rows;
  };
  EXPECT_EQ(rows("", 0).size(), pairs.pairs.size());
  EXPECT_EQ(rows("", 1).size(), 1u);
  EXPECT_EQ(rows("", 2).size(), 2u);
  const auto second = rows("layers.1.", 0);
  EXPECT_GT(second.size(), 5u);
  for (const WeightRow& row : second) EXPECT_NE(row.name.find("layers.1."), std::string::npos);
  EXPECT_EQ(rows("layers.1.", 3).size(), 3u);
  EXPECT_TRUE(rows("nothing", 0).empty());
}

TEST(WeightDiff, CountsRowsByWhatBecameOfThem) {
  WeightDiff diff;
  for (const auto& [status, verdict] : std::vector<std::pair<const char*, WeightVerdict>>{{"Identical", WeightVerdict::kIdentical},
                                                                                          {"NearlyIdentical", WeightVerdict::kExplained},
                                                                                          {"Transposed", WeightVerdict::kTransposed},
                                                                                          {"Critical", WeightVerdict::kDifferent},
                                                                                          {"LargeDiff", WeightVerdict::kDifferent},
                                                                                          {"MediumDiff", WeightVerdict::kDifferent}}) {
    WeightRow row;
    row.status = status;
    row.verdict = verdict;
    diff.rows.push_back(row);
  }
  const Json json = diff.ToJson();
  EXPECT_EQ(json.at("identical_count"), 2);
  EXPECT_EQ(json.at("different_count"), 4);
  for (const char* key : {"transposed_count", "critical_count", "large_count", "medium_count"}) EXPECT_EQ(json.at(key), 1) << key;
}

}  // namespace
}  // namespace apr
