// A model against its packed version: codes and scales in several tensors explain what they cost, and no more.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <random>

#include "base/float16.h"
#include "base/json.h"
#include "base/temp_folder.h"
#include "compare/bisect/bisection.h"
#include "compare/test_scaled.h"
#include "format/model_writer.h"
#include "quant/quant.h"

namespace apr::bisect {
namespace {

const std::string kModel = APR_SOURCE_DIR "/testdata/model/llama";
constexpr int64_t kGroup = 8;

TensorToWrite Made(const std::string& name, DType dtype, const Shape& shape, const void* data) {
  const auto* from = static_cast<const std::byte*>(data);
  std::vector<std::byte> bytes(from, from + *StorageBytes(dtype, shape));
  return {name, dtype, shape, [bytes](const ByteSink& sink) { sink(bytes); }};
}

// compressed-tensors: symmetric codes of 4 bits, the nearest ones. `factor` multiplies the scale of group 0 of row 1.
void AddInt4(std::vector<TensorToWrite>& out, const std::string& module, const Shape& shape, const std::vector<float>& values, float factor) {
  const int64_t groups = shape[1] / kGroup;
  std::vector<float> scales;
  std::vector<uint32_t> words(values.size() / 8);
  for (int64_t g = 0; g < shape[0] * groups; ++g) {
    float most = 0;
    for (int64_t i = 0; i < kGroup; ++i) most = std::max(most, std::fabs(values[static_cast<size_t>(g * kGroup + i)]));
    const float scale = most / 7;
    for (int64_t i = 0; i < kGroup; ++i) {
      const auto q = static_cast<uint32_t>(std::lround(values[static_cast<size_t>(g * kGroup + i)] / scale) + 8);
      words[static_cast<size_t>(g)] |= q << (4 * i);
    }
    scales.push_back(g == groups ? scale * factor : scale);
  }
  const int64_t dims[2] = {shape[0], shape[1]};
  out.push_back(Made(module + ".weight_packed", DType::kI32, {shape[0], shape[1] / 8}, words.data()));
  out.push_back(Made(module + ".weight_scale", DType::kF32, {shape[0], groups}, scales.data()));
  out.push_back(Made(module + ".weight_shape", DType::kI64, {2}, dims));
}

uint8_t NearestF8(float value) {
  uint8_t best = 0;
  for (int code = 0; code < 256; ++code) {
    const auto of = [](int c) { return F8E4M3ToF32(static_cast<uint8_t>(c)); };
    if (std::fabs(of(code) - value) < std::fabs(of(best) - value)) best = static_cast<uint8_t>(code);
  }
  return best;
}

// 8-bit floats with a scale for each row.
void AddF8(std::vector<TensorToWrite>& out, const std::string& module, const Shape& shape, const std::vector<float>& values, float factor) {
  std::vector<float> scales;
  std::vector<uint8_t> codes;
  for (int64_t r = 0; r < shape[0]; ++r) {
    float most = 0;
    for (int64_t i = 0; i < shape[1]; ++i) most = std::max(most, std::fabs(values[static_cast<size_t>(r * shape[1] + i)]));
    for (int64_t i = 0; i < shape[1]; ++i) codes.push_back(NearestF8(values[static_cast<size_t>(r * shape[1] + i)] / (most / 448)));
    scales.push_back(r == 1 ? most / 448 * factor : most / 448);
  }
  out.push_back(Made(module + ".weight", DType::kF8E4M3, shape, codes.data()));
  out.push_back(Made(module + ".weight_scale", DType::kF32, {shape[0], 1}, scales.data()));
}

class PackedSide : public testing::TestWithParam<std::string> {
 protected:
  // The test model with every projection packed; the scale of layer 1's down_proj is wrong in one place unless `factor` is 1.
  std::string Packed(const std::string& name, float factor) const {
    const auto original = ModelFile::Open(kModel);
    std::vector<TensorToWrite> tensors;
    for (const TensorInfo& info : original->tensors()) {
      if (!info.name.ends_with("_proj.weight")) {
        tensors.push_back(CopyOf(original, info, info.name));
        continue;
      }
      std::vector<float> values(static_cast<size_t>(info.shape.num_elements()));
      DecodeTensor(original->View(info), values);
      const auto add = GetParam() == "int4" ? AddInt4 : AddF8;
      add(tensors, info.name.substr(0, info.name.size() - 7), info.shape, values, info.name == kVictim ? factor : 1);
    }
    WriteSafetensorsFolder({.folder = folder_ / name, .tensors = tensors, .metadata = {}});
    std::ofstream(folder_ / (name + "/config.json")) << *original->config();
    return folder_ / name;
  }
  static Report Judged(const std::string& a, const std::string& b) {
    Options options;
    options.a = a;
    options.b = b;
    options.threads = 1;
    return bisect::Run(options);
  }

  static constexpr const char* kVictim = "model.layers.1.mlp.down_proj.weight";
  TempFolder folder_{"packed-side"};
};

TEST_P(PackedSide, IsRoundingOfTheOriginal) {
  const std::string packed = Packed("packed", 1);
  for (const Report& report : {Judged(kModel, packed), Judged(packed, kModel)}) {
    EXPECT_EQ(report.verdict, Verdict::kRounding) << (report.findings.empty() ? "" : report.findings[0].first.note);
    EXPECT_TRUE(report.coverage.tensors_only_a.empty() && report.coverage.tensors_only_b.empty());
  }
  EXPECT_EQ(Judged(packed, packed).verdict, Verdict::kSame);
}

TEST_P(PackedSide, AWrongScaleIsNotRounding) {
  const Report report = Judged(kModel, Packed("packed", 3));
  EXPECT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].first.phase, Phase::kWeights);
  EXPECT_EQ(report.findings[0].first.tensor, kVictim);
  if (GetParam() == "int4") return;  // eight elements: no tile that is tried
  ASSERT_TRUE(report.findings[0].cause);
  EXPECT_EQ(report.findings[0].cause->name, "scaled_tensor") << report.findings[0].cause->evidence;
}

INSTANTIATE_TEST_SUITE_P(Schemes, PackedSide, testing::Values("int4", "f8"), [](const auto& p) { return p.param; });

// AWQ moves factors between norms and matrices before it packs, so that nothing inside a layer is what it was.
class AwqSide : public testing::Test {
 protected:
  // The test model as AWQ packs it, after `damage` to the scaled values.
  std::string Packed(const std::string& name, const std::function<void(NamedValues&)>& damage) {
    std::mt19937 random(4);
    NamedValues scaled = ReadValues(*original_);
    for (const char* layer : {"model.layers.0.", "model.layers.1."}) scaled = ScaledLikeAwq(scaled, layer, 0, random);
    damage(scaled);
    WriteSafetensorsFolder({.folder = folder_ / name, .tensors = PackedAsAwq(*original_, scaled), .metadata = {}});
    config_ = *original_->config();
    config_["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 16}};
    std::ofstream(folder_ / (name + "/config.json")) << config_;
    return folder_ / name;
  }
  static Report Judged(const std::string& a, const std::string& b) { return bisect::Run({.a = a, .b = b, .threads = 1}); }

  std::shared_ptr<const ModelFile> original_ = ModelFile::Open(kModel);
  Json config_;
  TempFolder folder_{"awq-side"};
};

TEST_F(AwqSide, IsRoundingOfTheOriginal) {
  const std::string packed = Packed("packed", [](NamedValues&) {});
  for (const Report& report : {Judged(kModel, packed), Judged(packed, kModel)}) {
    EXPECT_EQ(report.verdict, Verdict::kRounding) << (report.findings.empty() ? report.reason : report.findings[0].first.note);
    const auto says = [](const std::string& note) { return note.find("factors taken back") != std::string::npos; };
    EXPECT_TRUE(std::ranges::any_of(report.coverage.notes, says));
  }
}

TEST_F(AwqSide, AFactorThatIsNotTakenBackIsTold) {
  const NamedValues original = ReadValues(*original_);
  const std::string victim = "model.layers.1.self_attn.k_proj.weight";
  const Report report = Judged(kModel, Packed("packed", [&](NamedValues& values) { values[victim] = original.at(victim); }));
  EXPECT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].first.phase, Phase::kWeights);
  EXPECT_EQ(report.findings[0].first.layer, 1);
  EXPECT_EQ(report.findings[0].first.tensor, "model.layers.1.input_layernorm.weight");
}

TEST_F(AwqSide, AnotherFaultIsFoundThroughTheFactors) {
  const std::string packed = Packed("packed", [](NamedValues&) {});
  config_["rope_theta"] = config_.value("rope_theta", 10000.0) * 4;
  std::ofstream(packed + "/config.json") << config_;
  const Report report = Judged(kModel, packed);
  EXPECT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_FALSE(report.findings.empty() || !report.findings[0].cause);
  EXPECT_EQ(report.findings[0].cause->name, "rope_theta");
}

}  // namespace
}  // namespace apr::bisect
