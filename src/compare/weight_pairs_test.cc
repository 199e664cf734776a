// What a conversion between formats makes of tensors meets what they were: nothing is missing on either side.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "base/temp_folder.h"
#include "compare/weight_diff.h"
#include "format/model_writer.h"
#include "format/tensor_writer.h"
#include "model/export_model.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> Models() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(APR_SOURCE_DIR "/testdata/model")) {
    if (fs::exists(entry.path() / "config.json")) out.push_back(entry.path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

WeightDiff Diff(const std::string& a, const std::string& b) {
  ThreadPool pool(1);
  return DiffWeights(PairWeights(ModelFile::Open(a), ModelFile::Open(b)), {}, pool);
}

class Converted : public testing::TestWithParam<std::string> {
 protected:
  const std::string model_ = APR_SOURCE_DIR "/testdata/model/" + GetParam();
  TempFolder folder_{"weight-pairs"};
};

TEST_P(Converted, HasEveryTensorOfTheOriginal) {
  const std::string out = folder_ / "m.gguf";
  try {
    ExportGguf(Model::Load(model_), {.out = out, .dtype = DType::kF32});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoad) << error.what();  // GGUF cannot hold it
    return;
  }
  for (const auto& [a, b] : {std::pair{model_, out}, std::pair{out, model_}}) {
    const WeightDiff diff = Diff(a, b);
    EXPECT_EQ(diff.only_a, std::vector<std::string>{});
    EXPECT_EQ(diff.only_b, std::vector<std::string>{});
    EXPECT_TRUE(diff.agree());
    EXPECT_GE(diff.rows.size(), 20u);
  }
}

// .apr keeps the orientation of the folder: blocks may lie across the rows of the weight, and two types have no rows.
TEST_P(Converted, QuantisedIsExplainedByItsTypes) {
  std::shared_ptr<const Model> model;
  try {
    model = Model::Load(model_);
  } catch (const Error&) {
    return;  // of an architecture that is not known
  }
  for (const DType dtype : {DType::kAprQ8, DType::kAprQ4, DType::kQ4_K, DType::kQ6_K}) {
    const std::string out = folder_ / "m.apr";
    bool some = false;
    ExportApr(model, {.out = out, .choose = [&](const std::string&, const Shape& shape, DType stored) {
                        some |= shape.ndim() >= 2;
                        return shape.ndim() >= 2 ? dtype : stored;
                      }, .overwrite = Overwrite::kAllow});
    for (const auto& [a, b] : {std::pair{model_, out}, std::pair{out, model_}}) {
      const WeightDiff diff = Diff(a, b);
      EXPECT_TRUE(diff.agree()) << NameOf(dtype);
      for (const WeightRow& row : diff.rows) {
        if (row.verdict == WeightVerdict::kDifferent) ADD_FAILURE() << row.name << " " << row.shape_a.ToString() << " " << row.explanation;
      }
      const bool explained = std::ranges::any_of(diff.rows, [](const WeightRow& row) { return row.verdict == WeightVerdict::kExplained; });
      EXPECT_EQ(explained, some) << NameOf(dtype);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Converted, testing::ValuesIn(Models()), [](const auto& p) {
  std::string name = p.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// A GGUF with other values, or without a tensor, is told from the folder it was made of.
class Changed : public testing::Test {
 protected:
  // The GGUF of `model` with `change` made to the tensor `name`; null: left out.
  std::string Write(const std::string& model, const std::string& name, const std::function<void(std::vector<float>&)>& change) {
    const std::string whole = folder_ / "whole.gguf", out = folder_ / "changed.gguf";
    ExportGguf(Model::Load(APR_SOURCE_DIR "/testdata/model/" + model), {.out = whole, .dtype = DType::kF32, .overwrite = Overwrite::kAllow});
    const auto file = ModelFile::Open(whole);
    std::vector<TensorToWrite> tensors;
    for (const TensorInfo& info : file->tensors()) {
      if (info.name != name) {
        tensors.push_back(CopyOf(file, info, info.name));
      } else if (change) {
        const auto* from = reinterpret_cast<const float*>(file->View(info).bytes.data());
        std::vector<float> values(from, from + info.shape.num_elements());
        change(values);
        tensors.push_back({info.name, info.dtype, info.shape, [values](const ByteSink& sink) { sink(std::as_bytes(std::span(values))); }});
      }
    }
    EXPECT_TRUE(file->Find(name)) << name;
    WriteGguf(out, tensors, file->metadata(), Overwrite::kAllow);
    return out;
  }
  TempFolder folder_{"weight-pairs"};
};

TEST_F(Changed, RopeFactorsAreComparedWithWhatTheConfigurationSays) {
  for (const auto& [model, name] : {std::pair{"llama", "rope_freqs.weight"}, std::pair{"phi3-partial-longrope", "rope_factors_long.weight"}}) {
    const std::string folder = APR_SOURCE_DIR "/testdata/model/" + std::string(model);
    const std::string other = Write(model, name, [](std::vector<float>& values) { values[1] *= 1.01f; });
    // A GGUF that says llama3's rule itself and contradicts it is no model.
    const WeightDiff diff = Diff(folder, other);
    EXPECT_FALSE(diff.agree()) << model;
    const auto row = std::find_if(diff.rows.begin(), diff.rows.end(), [](const WeightRow& r) { return r.name_a == "rope_scaling of the configuration"; });
    ASSERT_NE(row, diff.rows.end()) << model;
    EXPECT_EQ(row->verdict, WeightVerdict::kDifferent);
    EXPECT_EQ(row->Coordinate(), std::vector<int64_t>{1});
    const std::string rounded = Write(model, name, [](std::vector<float>& values) { values[1] *= 1.000001f; });
    EXPECT_TRUE(Diff(folder, rounded).agree()) << "what f32 arithmetic may leave";
  }
}

// Blocks that lie across the rows of the weight, or over the whole tensor: a scale that is not theirs.
TEST_F(Changed, AWrongScaleOfABlockIsNotWhatTheTypeExplains) {
  const std::string name = "transformer.h.0.mlp.c_fc.weight", folder = APR_SOURCE_DIR "/testdata/model/gpt2-inverse-layer";
  const auto model = Model::Load(folder);
  for (const DType dtype : {DType::kAprQ8, DType::kAprQ4, DType::kQ4_K, DType::kQ6_K}) {
    const std::string whole = folder_ / "whole.apr", changed = folder_ / "changed.apr";
    ExportApr(model, {.out = whole, .choose = [&](const std::string&, const Shape& shape, DType stored) { return shape.ndim() == 2 ? dtype : stored; },
                      .overwrite = Overwrite::kAllow});
    ASSERT_TRUE(Diff(folder, whole).agree()) << NameOf(dtype);
    const auto file = ModelFile::Open(whole);
    std::vector<TensorToWrite> tensors;
    for (const TensorInfo& info : file->tensors()) {
      if (info.name != name) {
        tensors.push_back(CopyOf(file, info, info.name));
        continue;
      }
      const Bytes from = file->View(info).bytes;
      std::vector<std::byte> bytes(from.begin(), from.end());
      // Another exponent: of an f16 (Q6_K's lies at the end of its block), or of the f32 of APR_Q8.
      bytes[dtype == DType::kAprQ8 ? 3 : dtype == DType::kQ6_K ? InfoOf(dtype).block_bytes - 1 : 1] ^= std::byte{dtype == DType::kAprQ8 ? uint8_t{1} : uint8_t{4}};
      tensors.push_back({info.name, info.dtype, info.shape, [bytes](const ByteSink& sink) { sink(bytes); }});
    }
    WriteApr({.path = changed, .tensors = std::move(tensors), .metadata = file->metadata(), .overwrite = Overwrite::kAllow});
    const WeightDiff diff = Diff(folder, changed);
    EXPECT_FALSE(diff.agree()) << NameOf(dtype);
    for (const WeightRow& row : diff.rows) EXPECT_EQ(row.verdict == WeightVerdict::kDifferent, row.name == name) << NameOf(dtype) << " " << row.name;
  }
}

TEST_F(Changed, ATensorThatIsMissingIsNamed) {
  for (const char* model : {"olmo2", "qwen2"}) {
    const std::string folder = APR_SOURCE_DIR "/testdata/model/" + std::string(model);
    const std::string other = Write(model, "blk.0.ffn_down.weight", nullptr);
    const WeightDiff diff = Diff(folder, other);
    EXPECT_FALSE(diff.agree()) << model;
    EXPECT_FALSE(diff.only_a.empty()) << model;
    EXPECT_TRUE(diff.only_b.empty()) << model;
  }
}

}  // namespace
}  // namespace apr
