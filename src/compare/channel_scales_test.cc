// Factors moved between a norm and its readers, or between two matrices, are explained; what is not taken back is not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <span>

#include "base/temp_folder.h"
#include "compare/weight_diff.h"
#include "format/model_writer.h"
#include "format/tensor_writer.h"
#include "model/export_model.h"
#include "base/json.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

using Values = std::map<std::string, std::vector<float>>;

class ChannelScales : public testing::Test {
 protected:
  // The tensors of the model as f32, by the names of its folder.
  Values Read(const std::string& name) {
    source_ = ModelFile::Open(APR_SOURCE_DIR "/testdata/model/" + name);
    Values out;
    for (const TensorInfo& info : source_->tensors()) out[info.name] = ReadWeightF32({.view = source_->View(info)});
    return out;
  }
  std::string Write(const std::string& folder, const Values& values, DType dtype) {
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
  void ExpectAll(const Values& original, const Values& scaled, bool agree, const std::set<std::string>& different) {
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
  std::vector<float> Factors(size_t n) {
    std::vector<float> out(n);
    for (float& f : out) f = std::exp(std::normal_distribution<float>(0, 0.4f)(random_));
    return out;
  }
  static void Columns(std::vector<float>& values, const std::vector<float>& factors) {
    for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i % factors.size()];
  }
  static void Rows(std::vector<float>& values, const std::vector<float>& factors) {
    const size_t cols = values.size() / factors.size();
    for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i / cols];
  }
  static std::vector<float> Over(const std::vector<float>& factors) {
    std::vector<float> out;
    for (const float f : factors) out.push_back(1 / f);
    return out;
  }

  std::shared_ptr<const ModelFile> source_;
  TempFolder folder_{"channel-scales"};
  std::mt19937 random_{4};
};

const std::string kLayer = "model.layers.1.";

// As AWQ scales a Llama: into the norms, and between up and down.
Values Awq(const Values& original, const std::function<std::vector<float>(size_t)>& factors, float norm_offset,
           void (*columns)(std::vector<float>&, const std::vector<float>&), void (*rows)(std::vector<float>&, const std::vector<float>&)) {
  Values out = original;
  const auto norm = [&](const std::string& name, const std::vector<std::string>& readers) {
    std::vector<float>& n = out.at(kLayer + name + ".weight");
    const std::vector<float> f = factors(n.size());
    for (size_t i = 0; i < n.size(); ++i) n[i] = (n[i] + norm_offset) / f[i] - norm_offset;
    for (const std::string& reader : readers) columns(out.at(kLayer + reader + ".weight"), f);
  };
  norm("input_layernorm", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
  norm(norm_offset == 0 ? "post_attention_layernorm" : "pre_feedforward_layernorm", {"mlp.gate_proj", "mlp.up_proj"});
  std::vector<float>& up = out.at(kLayer + "mlp.up_proj.weight");
  std::vector<float>& down = out.at(kLayer + "mlp.down_proj.weight");
  const std::vector<float> f = factors(up.size() / out.at(kLayer + "input_layernorm.weight").size());
  std::vector<float> back;
  for (const float each : f) back.push_back(1 / each);
  rows(up, back);
  columns(down, f);
  return out;
}

TEST_F(ChannelScales, ThatAreTakenBackAreExplained) {
  for (const char* model : {"llama", "qwen2", "gemma2"}) {
    const Values original = Read(model);
    const Values scaled = Awq(original, [&](size_t n) { return Factors(n); }, std::string_view(model) == "gemma2" ? 1.0f : 0.0f, Columns, Rows);
    SCOPED_TRACE(model);
    ExpectAll(original, scaled, true, {});
  }
}

// A matrix as AWQ stores it: groups of 16 inputs, clipped at 0.9 of their largest, codes of 4 bits around a zero point.
void AddAwq(const std::string& module, const std::vector<float>& values, int64_t in, std::vector<TensorToWrite>& tensors) {
  constexpr int64_t kGroup = 16;
  constexpr int kNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  const int64_t out = static_cast<int64_t>(values.size()) / in, groups = in / kGroup;
  std::vector<uint32_t> codes(static_cast<size_t>(in * out / 8)), zeros(static_cast<size_t>(groups * out / 8));
  std::vector<float> scales(static_cast<size_t>(groups * out));
  for (int64_t o = 0; o < out; ++o) {
    const int shift = 4 * kNibble[o % 8];
    for (int64_t g = 0; g < groups; ++g) {
      const float* x = values.data() + o * in + g * kGroup;
      const auto [least, most] = std::minmax_element(x, x + kGroup);
      const float limit = 0.9f * std::max(-*least, *most), low = std::clamp(*least, -limit, 0.0f), high = std::clamp(*most, 0.0f, limit);
      const float scale = (high - low) / 15, zero = std::round(-low / scale);
      scales[static_cast<size_t>(g * out + o)] = scale;
      zeros[static_cast<size_t>((g * out + o) / 8)] |= static_cast<uint32_t>(zero) << shift;
      for (int64_t i = 0; i < kGroup; ++i) {
        codes[static_cast<size_t>(((g * kGroup + i) * out + o) / 8)] |= static_cast<uint32_t>(std::clamp(std::round(x[i] / scale) + zero, 0.0f, 15.0f)) << shift;
      }
    }
  }
  const auto made = [&](const char* part, DType dtype, const Shape& shape, const auto& of) {
    const auto bytes = std::as_bytes(std::span(of));
    tensors.push_back({module + part, dtype, shape, [kept = std::vector<std::byte>(bytes.begin(), bytes.end())](const ByteSink& sink) { sink(kept); }});
  };
  made(".qweight", DType::kI32, {in, out / 8}, codes);
  made(".qzeros", DType::kI32, {groups, out / 8}, zeros);
  made(".scales", DType::kF32, {groups, out}, scales);
}

TEST_F(ChannelScales, PackedAndClippedAreExplained) {
  const Values original = Read("llama");
  const Values scaled = Awq(original, [&](size_t n) { return Factors(n); }, 0, Columns, Rows);
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& info : source_->tensors()) {
    const std::vector<float>& of = scaled.at(info.name);
    if (info.name.ends_with("_proj.weight")) {
      AddAwq(info.name.substr(0, info.name.size() - 7), of, info.shape.cols(), tensors);
    } else {
      tensors.push_back({info.name, DType::kF32, info.shape, [of](const ByteSink& sink) { sink(std::as_bytes(std::span(of))); }});
    }
  }
  WriteSafetensorsFolder({.folder = folder_ / "awq", .tensors = std::move(tensors), .metadata = {}});
  Json config = *source_->config();
  config["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 16}};
  std::ofstream(folder_ / "awq/config.json") << config;
  ThreadPool pool(1);
  const WeightDiff diff = DiffWeights(PairWeights(ModelFile::Open(Write("original", original, DType::kF32)), ModelFile::Open(folder_ / "awq")), {}, pool);
  for (const WeightRow& row : diff.rows) EXPECT_NE(row.verdict, WeightVerdict::kDifferent) << row.name << ": " << row.explanation;
}

TEST_F(ChannelScales, OneReaderThatDoesNotTakeThemBackIsToldWithItsPart) {
  const Values original = Read("llama");
  Values scaled = Awq(original, [&](size_t n) { return Factors(n); }, 0, Columns, Rows);
  scaled[kLayer + "self_attn.k_proj.weight"] = original.at(kLayer + "self_attn.k_proj.weight");
  ExpectAll(original, scaled, false,
            {kLayer + "input_layernorm.weight", kLayer + "self_attn.q_proj.weight", kLayer + "self_attn.v_proj.weight"});
}

TEST_F(ChannelScales, ADamagedElementIsNotExplained) {
  const Values original = Read("llama");
  Values scaled = Awq(original, [&](size_t n) { return Factors(n); }, 0, Columns, Rows);
  scaled[kLayer + "mlp.gate_proj.weight"][77] += 1;
  ExpectAll(original, scaled, false,
            {kLayer + "post_attention_layernorm.weight", kLayer + "mlp.gate_proj.weight", kLayer + "mlp.up_proj.weight", kLayer + "mlp.down_proj.weight"});
}

TEST_F(ChannelScales, RowsThatNothingTakesBackAreNotExplained) {
  const Values original = Read("llama");
  Values scaled = original;
  Rows(scaled.at(kLayer + "mlp.up_proj.weight"), Factors(scaled.at(kLayer + "mlp.up_proj.weight").size() / scaled.at(kLayer + "input_layernorm.weight").size()));
  ExpectAll(original, scaled, false, {kLayer + "mlp.up_proj.weight"});
}

}  // namespace
}  // namespace apr
