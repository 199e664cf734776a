// Mixes, importance, and merging of weights.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/temp_folder.h"
#include "format/imatrix.h"
#include "model/merge.h"
#include "model/plan_types.h"
#include "model/quantize_gguf.h"
#include "quant/quant.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

// The matrices of a llama of `layers` layers, rows of 512.
std::vector<MixTensor> Llama(int layers, bool tied) {
  std::vector<MixTensor> out = {{"token_embd.weight", {1000, 512}}, {"output_norm.weight", {512}}};
  if (!tied) out.push_back({"output.weight", {1000, 512}});
  for (int i = 0; i < layers; ++i) {
    const std::string blk = "blk." + std::to_string(i) + ".";
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) out.push_back({blk + name + ".weight", {512, 512}});
    out.push_back({blk + "attn_norm.weight", {512}});
  }
  return out;
}

std::string TypesOf(const std::string& mix, const std::string& tensor, int layers = 32, bool importance = false) {
  const auto plan = PlanMix({.mix = mix, .has_importance = importance}, Llama(layers, false), nullptr);
  std::string out;
  for (int i = 0; i < layers; ++i) out += std::string(NameOf(plan.at("blk." + std::to_string(i) + "." + tensor + ".weight").dtype)).substr(0, 2);
  return out;
}

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

// Expected: what llama.cpp's quantiser prints for such a model.
TEST(Mix, LayersGetTheBitsThatTheMixSays) {
  const std::string more = Repeat("Q6", 4) + Repeat("Q4Q4Q6", 8) + Repeat("Q6", 4);
  EXPECT_EQ(TypesOf("Q4_K_M", "attn_v"), more);
  EXPECT_EQ(TypesOf("Q4_K_M", "ffn_down"), more);
  EXPECT_EQ(TypesOf("Q4_K_M", "attn_q"), Repeat("Q4", 32));
  EXPECT_EQ(TypesOf("Q4_K_S", "attn_v"), Repeat("Q5", 4) + Repeat("Q4", 28));
  EXPECT_EQ(TypesOf("Q4_K_S", "ffn_down"), Repeat("Q5", 4) + Repeat("Q4", 28));
  EXPECT_EQ(TypesOf("Q3_K_M", "attn_v"), Repeat("Q5", 2) + Repeat("Q4", 30));
  EXPECT_EQ(TypesOf("Q3_K_M", "ffn_down"), Repeat("Q5", 2) + Repeat("Q4", 30));
  EXPECT_EQ(TypesOf("Q3_K_L", "attn_output"), Repeat("Q5", 32));
  EXPECT_EQ(TypesOf("Q2_K", "attn_v"), Repeat("Q3", 32));
  EXPECT_EQ(TypesOf("Q2_K", "ffn_up"), Repeat("Q2", 32));
  EXPECT_EQ(TypesOf("Q4_0", "ffn_down"), Repeat("Q4", 32));
  const auto with = PlanMix({.mix = "Q4_0", .has_importance = true}, Llama(32, false), nullptr);
  EXPECT_EQ(with.at("blk.3.ffn_down.weight").dtype, DType::kQ4_1);
  EXPECT_EQ(with.at("blk.4.ffn_down.weight").dtype, DType::kQ4_0);
}

TEST(Mix, HeadEmbeddingNormsAndOverrides) {
  auto plan = PlanMix({.mix = "q4_k_m"}, Llama(4, false), nullptr);
  EXPECT_EQ(plan.at("output.weight").dtype, DType::kQ6_K);
  EXPECT_EQ(plan.at("token_embd.weight").dtype, DType::kQ4_K);
  EXPECT_EQ(plan.at("output_norm.weight").dtype, DType::kF32);
  plan = PlanMix({.mix = "Q4_K_M"}, Llama(4, true), nullptr);
  EXPECT_EQ(plan.at("token_embd.weight").dtype, DType::kQ6_K);
  plan = PlanMix({.mix = "Q4_K_M", .overrides = {ParseTypeOverride("attn_(k|v)=Q8_0")}}, Llama(4, true), nullptr);
  EXPECT_EQ(plan.at("blk.1.attn_k.weight").dtype, DType::kQ8_0);
  EXPECT_EQ(plan.at("blk.1.attn_q.weight").dtype, DType::kQ4_K);
  EXPECT_THROW(ParseTypeOverride("attn=Q9"), Error);
  EXPECT_THROW(ParseTypeOverride("(=Q8_0"), Error);
  EXPECT_THROW(MixName("Q4_K_XXL"), Error);
}

TEST(Mix, RowsThatAreNoWholeBlocksFallBack) {
  const std::vector<MixTensor> odd = {{"blk.0.attn_q.weight", {64, 96}}, {"blk.0.attn_k.weight", {64, 100}}};
  const auto plan = PlanMix({.mix = "Q4_K_S"}, odd, nullptr);
  EXPECT_EQ(plan.at("blk.0.attn_q.weight").dtype, DType::kQ5_0);
  EXPECT_TRUE(plan.at("blk.0.attn_q.weight").fallback);
  EXPECT_EQ(plan.at("blk.0.attn_k.weight").dtype, DType::kF16);
}

template <typename T>
void Append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string DatFile(int32_t calls, const std::vector<float>& values) {
  std::string out;
  Append<int32_t>(out, 1);
  Append<int32_t>(out, 1);
  out += "w";
  Append(out, calls);
  Append(out, static_cast<int32_t>(values.size()));
  for (const float v : values) Append(out, v);
  return out;
}

std::shared_ptr<const ImportanceMatrix> Read(const std::string& text) {
  return ImportanceMatrix::FromMapped(MappedFile::Borrowed("test.imatrix", AsBytes(text)));
}

TEST(Importance, BothFormsOfFileAreRead) {
  const std::string dat = DatFile(2, {2, 4, 6, 8});
  const auto old = Read(dat);
  const float* values = old->Find("w", 2, 2);
  EXPECT_EQ(std::vector<float>(values, values + 4), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(old->Find("other", 1, 4), nullptr);
  EXPECT_THROW(old->Find("w", 1, 3), Error) << "another number of columns is no match";
  const TempFolder folder("quantize-test");
  const auto vector = [](const std::string& name, const Shape& shape, const std::vector<float>& v) {
    return TensorToWrite{name, DType::kF32, shape, [v](const ByteSink& sink) { sink(std::as_bytes(std::span(v))); }};
  };
  MetaBuilder metadata;
  metadata.SetString("general.type", "imatrix");
  WriteGguf(folder / "i.gguf", {vector("w.in_sum2", {2, 2}, {2, 4, 9, 9}), vector("w.counts", {2, 1}, {2, 0})}, metadata.list(), Overwrite::kRefuse);
  const auto fresh = ImportanceMatrix::Open(folder / "i.gguf");
  values = fresh->Find("w", 2, 2);
  EXPECT_EQ(std::vector<float>(values, values + 4), (std::vector<float>{1, 2, 1, 1})) << "an expert without tokens counts every column the same";
}

TEST(Importance, BrokenFilesAreRefused) {
  const std::string good = DatFile(1, {1, 2});
  for (size_t cut = 0; cut < good.size(); ++cut) EXPECT_THROW(Read(good.substr(0, cut)), Error) << cut;
  EXPECT_THROW(Read(DatFile(1, {1, NAN})), Error);
  EXPECT_THROW(Read(DatFile(1, {1, -1})), Error);
}

double WeightedError(DType dtype, const std::vector<float>& x, int64_t rows, int64_t cols, const float* used, const std::vector<float>& importance) {
  std::vector<std::byte> bytes(*StorageBytes(dtype, Shape{rows, cols}));
  EncodeRows(dtype, x.data(), rows, cols, used, bytes.data());
  std::vector<float> y(x.size());
  DecodeTensor({dtype, Shape{rows, cols}, bytes}, y);
  double error = 0;
  for (size_t i = 0; i < x.size(); ++i) error += importance[i % static_cast<size_t>(cols)] * (x[i] - y[i]) * (x[i] - y[i]);
  return error;
}

// An importance matrix that is given must help where it says it matters.
TEST(Importance, EveryEncoderThatTakesItUsesIt) {
  std::mt19937 random(7);
  std::normal_distribution<float> gauss;
  constexpr int64_t kRows = 16, kCols = 512;
  std::vector<float> x(kRows * kCols), importance(kCols);
  for (float& v : x) v = gauss(random);
  for (float& v : importance) v = std::exp(2 * gauss(random));
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K,
                            DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4}) {
    EXPECT_LT(WeightedError(dtype, x, kRows, kCols, importance.data(), importance), WeightedError(dtype, x, kRows, kCols, nullptr, importance)) << NameOf(dtype);
  }
}

TEST(Merge, EveryStrategyDoesWhatItsPaperSays) {
  const std::vector<float> a = {1, 2, 3, 4}, b = {3, 2, 1, -4}, base = {1, 1, 1, 1};
  EXPECT_EQ(MergeTensor({a, b}, {}, "t", {}), (std::vector<float>{2, 2, 2, 0}));
  EXPECT_EQ(MergeTensor({a, b}, {}, "t", {.strategy = MergeStrategy::kWeighted, .weights = {3, 1}}), (std::vector<float>{1.5, 2, 2.5, 2}));
  const std::vector<float> x = {1, 0}, y = {0, 1};
  const std::vector<float> half = MergeTensor({x, y}, {}, "t", {.strategy = MergeStrategy::kSlerp});
  EXPECT_NEAR(half[0], std::sqrt(0.5), 1e-7);
  EXPECT_NEAR(half[1], std::sqrt(0.5), 1e-7);
  EXPECT_EQ(MergeTensor({a, a}, {}, "t", {.strategy = MergeStrategy::kSlerp}), a);
  // Task vectors {0,1,2,3} and {2,1,0,-5}; the half kept: {0,0,2,3} and {2,0,0,-5}. The last element's
  // sign is the second's, whose value alone counts.
  EXPECT_EQ(MergeTensor({a, b}, base, "t", {.strategy = MergeStrategy::kTies, .density = 0.5}), (std::vector<float>{3, 1, 3, -4}));
  EXPECT_EQ(MergeTensor({a, b}, base, "t", {.strategy = MergeStrategy::kDare, .drop_rate = 0}), (std::vector<float>{2, 2, 2, 0}));
}

TEST(Merge, DareKeepsTheMeanAndIsReproducible) {
  std::vector<float> a(20000, 2.0f), base(20000, 1.0f);
  const MergeOptions options{.strategy = MergeStrategy::kDare, .drop_rate = 0.9};
  const auto once = MergeTensor({a, a}, base, "t", options);
  EXPECT_EQ(once, MergeTensor({a, a}, base, "t", options));
  EXPECT_NE(once, MergeTensor({a, a}, base, "u", options)) << "tensors have numbers of their own";
  double sum = 0;
  for (const float v : once) sum += v;
  EXPECT_NEAR(sum / 20000, 2.0, 0.1);
}

}  // namespace
}  // namespace apr
