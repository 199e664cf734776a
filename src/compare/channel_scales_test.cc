// Factors moved between a norm and its readers, or between two matrices, are explained; what is not taken back is not.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <set>

#include "base/temp_folder.h"
#include "compare/test_scaled.h"
#include "compare/weight_diff.h"
#include "format/model_writer.h"
#include "format/tensor_writer.h"
#include "model/export_model.h"
#include "base/json.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

class ChannelScales : public testing::Test {
 protected:
  // The tensors of the model as f32, by the names of its folder.
  NamedValues Read(const std::string& name) {
    source_ = ModelFile::Open(APR_SOURCE_DIR "/testdata/model/" + name);
    return ReadValues(*source_);
  }
  std::string Write(const std::string& folder, const NamedValues& values, DType dtype) {
    std::vector<TensorToWrite> tensors;
    for (const TensorInfo& info : source_->tensors()) {
      std::vector<std::byte> bytes(*StorageBytes(dtype, info.shape));
      const std::vector<float>& of = values.at(info.name);
      EncodeRows(dtype, of.data(), 1, static_cast<int64_t>(of.size()), nullptr, bytes.data());
      tensors.push_back({info.name, dtype, info.shape, [bytes](const ByteSink& sink) { sink(bytes); }});
    }
    WriteSafetensorsFolder({.folder = folder_ / folder, .tensors = std::move(tensors), .metadata = {}, .overwrite = Overwrite::kAllow});
    std::ofstream(folder_ / (folder + "/config.json")) << *source_->config();
    return folder_ / folder;
  }
  // An original in f32 against `scaled` as f32, F16, BF16 and, as a GGUF, with blocks.
  void ExpectAll(const NamedValues& original, const NamedValues& scaled, bool agree, const std::set<std::string>& different) {
    const std::string a = Write("original", original, DType::kF32);
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
      std::string b = Write("scaled", scaled, IsQuantized(dtype) ? DType::kF32 : dtype);
      if (IsQuantized(dtype)) {
        const auto choose = [&](const std::string&, const Shape& shape, DType) { return shape.ndim() == 2 && shape[1] % 32 == 0 ? dtype : DType::kF32; };
        ExportGguf(Model::Load(b), {.out = folder_ / "scaled.gguf", .choose = choose, .overwrite = Overwrite::kAllow});
        b = folder_ / "scaled.gguf";
      }
      for (const auto& [x, y] : {std::pair{a, b}, std::pair{b, a}}) {
        ThreadPool pool(1);
        const WeightDiff diff = DiffWeights(PairWeights(ModelFile::Open(x), ModelFile::Open(y)), {}, pool);
        EXPECT_EQ(diff.agree(), agree) << NameOf(dtype);
        for (const WeightRow& row : diff.rows) {
          EXPECT_EQ(row.verdict == WeightVerdict::kDifferent, different.count(row.name) > 0) << NameOf(dtype) << " " << row.name << ": " << row.explanation;
        }
      }
    }
  }
  std::shared_ptr<const ModelFile> source_;
  TempFolder folder_{"channel-scales"};
  std::mt19937 random_{4};
};

const std::string kLayer = "model.layers.1.";

TEST_F(ChannelScales, ThatAreTakenBackAreExplained) {
  for (const char* model : {"llama", "qwen2", "gemma2", "llama-yarn-bias"}) {
    const NamedValues original = Read(model);
    const NamedValues scaled = ScaledLikeAwq(original, kLayer, std::string_view(model) == "gemma2" ? 1.0f : 0.0f, random_);
    SCOPED_TRACE(model);
    ExpectAll(original, scaled, true, {});
  }
}

TEST_F(ChannelScales, PackedAndClippedAreExplained) {
  const NamedValues original = Read("llama");
  const NamedValues scaled = ScaledLikeAwq(original, kLayer, 0, random_);
  WriteSafetensorsFolder({.folder = folder_ / "awq", .tensors = PackedAsAwq(*source_, scaled), .metadata = {}});
  Json config = *source_->config();
  config["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 16}};
  std::ofstream(folder_ / "awq/config.json") << config;
  ThreadPool pool(1);
  const WeightDiff diff = DiffWeights(PairWeights(ModelFile::Open(Write("original", original, DType::kF32)), ModelFile::Open(folder_ / "awq")), {}, pool);
  for (const WeightRow& row : diff.rows) EXPECT_NE(row.verdict, WeightVerdict::kDifferent) << row.name << ": " << row.explanation;
}

TEST_F(ChannelScales, OneReaderThatDoesNotTakeThemBackIsToldWithItsPart) {
  const NamedValues original = Read("llama");
  NamedValues scaled = ScaledLikeAwq(original, kLayer, 0, random_);
  scaled[kLayer + "self_attn.k_proj.weight"] = original.at(kLayer + "self_attn.k_proj.weight");
  ExpectAll(original, scaled, false,
            {kLayer + "input_layernorm.weight", kLayer + "self_attn.q_proj.weight", kLayer + "self_attn.v_proj.weight"});
}

TEST_F(ChannelScales, ADamagedElementIsNotExplained) {
  const NamedValues original = Read("llama");
  NamedValues scaled = ScaledLikeAwq(original, kLayer, 0, random_);
  scaled[kLayer + "mlp.gate_proj.weight"][77] += 1;
  ExpectAll(original, scaled, false,
            {kLayer + "post_attention_layernorm.weight", kLayer + "mlp.gate_proj.weight", kLayer + "mlp.up_proj.weight", kLayer + "mlp.down_proj.weight"});
}

TEST_F(ChannelScales, RowsThatNothingTakesBackAreNotExplained) {
  const NamedValues original = Read("llama");
  NamedValues scaled = original;
  std::vector<float>& up = scaled.at(kLayer + "mlp.up_proj.weight");
  ScaleRows(up, RandomFactors(up.size() / scaled.at(kLayer + "input_layernorm.weight").size(), random_));
  ExpectAll(original, scaled, false, {kLayer + "mlp.up_proj.weight"});
}

}  // namespace
}  // namespace apr
