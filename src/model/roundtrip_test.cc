// Every architecture through every container and back: testdata/model, and ../shared/oracle/model where it
// is present.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/temp_folder.h"
#include "exec/executor.h"
#include "model/config_fields.h"
#include "model/export_model.h"
#include "model/explain.h"
#include "model/gguf_metadata.h"
#include "model/lint.h"
#include "model/plan_types.h"
#include "quant/quant.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

std::vector<float> Logits(const Model& model) {
  const auto executor = Executor::Create(ExecutorKind::kCpu, model.bound(), {.threads = 1, .precision = Precision::kExact});
  std::vector<int32_t> ids;
  const int64_t count = model.config().learned_positions ? std::min<int64_t>(70, model.config().max_positions) : 70;
  for (int32_t i = 0; i < count; ++i) ids.push_back((i * 37 + 5) % static_cast<int32_t>(model.config().vocab_size));
  const Chunk chunk{executor->NewSequence(), ids, static_cast<int64_t>(ids.size())};
  const Tensor out = executor->Forward({&chunk, 1});
  return {out.f32().begin(), out.f32().end()};
}

double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return a.size() == b.size() && norm > 0 ? std::sqrt(error / norm) : INFINITY;
}

std::vector<float> Values(const ModelFile& file, const TensorInfo& info) {
  std::vector<float> out(static_cast<size_t>(info.shape.num_elements()));
  DecodeTensor(file.View(info), out);
  return out;
}

// Every tensor of `a` is in `b` under its name with the same values, and `b` has no other.
void ExpectSameTensors(const ModelFile& a, const ModelFile& b, const std::vector<std::string>& unused) {
  size_t compared = 0;
  for (const TensorInfo& info : a.tensors()) {
    if (std::find(unused.begin(), unused.end(), info.name) != unused.end()) continue;
    const TensorInfo* other = b.Find(info.name);
    if (other == nullptr) {
      // A head that repeats the embedding is not written twice.
      EXPECT_EQ(info.name, "lm_head.weight");
      continue;
    }
    EXPECT_EQ(other->shape, info.shape) << info.name;
    EXPECT_EQ(Values(a, info), Values(b, *other)) << info.name;
    ++compared;
  }
  EXPECT_GT(compared, 0u);
  EXPECT_EQ(compared, b.tensors().size());
}

struct Case {
  std::string folder;
  std::string name;
};
void PrintTo(const Case& each, std::ostream* out) { *out << each.name; }

std::vector<Case> Cases() {
  std::vector<Case> out;
  for (const char* root : {APR_SOURCE_DIR "/testdata/model", APR_SOURCE_DIR "/../shared/oracle/model"}) {
    if (!fs::is_directory(root)) continue;
    for (const auto& entry : fs::directory_iterator(root)) {
      std::ifstream in(entry.path() / "config.json");
      if (!in) continue;
      const Architecture* arch = FindByModelType(Json::parse(in).value("model_type", ""));
      if (arch == nullptr || arch->gguf.empty() || entry.path().filename() == "stablelm-parallel") continue;
      std::string name = (out.empty() || std::string(root).find("shared") == std::string::npos ? "own_" : "shared_") + entry.path().filename().string();
      std::replace_if(name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
      out.push_back({entry.path().string(), name});
    }
  }
  return out;
}

class RoundTrip : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { model_ = Model::Load(GetParam().folder); }
  std::shared_ptr<const Model> Gguf(const std::string& name, ExportOptions options) {
    options.out = folder_ / name;
    try {
      ExportGguf(model_, options);
    } catch (const Error& e) {
      // GGUF has no name for some of what testdata's fixtures exercise; what is refused must be named.
      if (GetParam().name.rfind("own_", 0) != 0 || e.code() != ErrorCode::kModelLoad) throw;
      EXPECT_GT(std::string(e.what()).size(), 20u);
      return nullptr;
    }
    return Model::Load(options.out);
  }
  TempFolder folder_{"roundtrip-test"};
  std::shared_ptr<const Model> model_;
};

TEST_P(RoundTrip, FolderToGgufToFolderIsTheSameModel) {
  const auto gguf = Gguf("m.gguf", {.dtype = DType::kF32});
  if (gguf == nullptr) GTEST_SKIP() << "not expressed by GGUF, and refused by name";
  EXPECT_EQ(gguf->unread_tensors(), std::vector<std::string>());
  EXPECT_EQ(gguf->unread_keys(), std::vector<std::string>());
  EXPECT_TRUE(DifferingFields(model_->config(), gguf->config()).empty()) << DifferingFields(model_->config(), gguf->config())[0].name;
  const std::vector<float> expected = Logits(*model_);
  EXPECT_EQ(Logits(*gguf), expected);
  ExportSafetensors(gguf, {.out = folder_ / "back"});
  const auto back = Model::Load(folder_ / "back");
  ExpectSameTensors(model_->file(), back->file(), model_->unread_tensors());
  EXPECT_EQ(Logits(*back), expected);
  EXPECT_EQ(back->unread_keys(), std::vector<std::string>());
}

TEST_P(RoundTrip, HalfPrecisionAndQ8) {
  for (const char* mix : {"F16", "Q8_0"}) {
    if (Gguf("probe.gguf", {.overwrite = Overwrite::kAllow}) == nullptr) GTEST_SKIP() << "not expressed by GGUF, and refused by name";
    TypePlan plan = PlanTypes(model_, Container::kGguf, {.mix = mix});
    const auto gguf = Gguf(std::string(mix) + ".gguf", {.choose = plan.choose, .mix = plan.mix});
    ExportSafetensors(gguf, {.out = folder_ / mix, .dtype = DType::kF32});
    const auto back = Model::Load(folder_ / mix);
    EXPECT_LT(RelativeError(Logits(*back), Logits(*gguf)), 2e-5) << mix;
    // Written again, the values are those that were read: nothing is lost a second time.
    TypePlan again = PlanTypes(back, Container::kGguf, {.mix = mix});
    ExportGguf(back, {.out = folder_ / "again.gguf", .choose = again.choose, .overwrite = Overwrite::kAllow});
    const auto second = ModelFile::Open(folder_ / "again.gguf");
    for (const TensorInfo& info : gguf->file().tensors()) EXPECT_EQ(Values(gguf->file(), info), Values(*second, *second->Find(info.name))) << info.name;
  }
}

TEST_P(RoundTrip, ThroughAprIsTheSameModel) {
  ExportApr(model_, {.out = folder_ / "m.apr"});
  const auto apr = Model::Load(folder_ / "m.apr");
  EXPECT_TRUE(DifferingFields(model_->config(), apr->config()).empty()) << DifferingFields(model_->config(), apr->config())[0].name;
  const std::vector<float> expected = Logits(*model_);
  EXPECT_EQ(Logits(*apr), expected);
  ExportSafetensors(apr, {.out = folder_ / "back"});
  EXPECT_EQ(Logits(*Model::Load(folder_ / "back")), expected);
}

INSTANTIATE_TEST_SUITE_P(All, RoundTrip, testing::ValuesIn(Cases()), [](const testing::TestParamInfo<Case>& each) { return each.param.name; });

// What the export relies on is shown to see a difference.
TEST(Fields, ADifferenceIsNamed) {
  const auto model = Model::Load(APR_SOURCE_DIR "/testdata/model/gemma3");
  ModelConfig other = model->config();
  EXPECT_TRUE(DifferingFields(model->config(), other).empty());
  other.ropes[1].table.theta += 1;
  other.layers[0].window += 1;
  const auto found = DifferingFields(model->config(), other);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].name, "rope_local_theta");
  EXPECT_EQ(found[1].name, "layer_windows");
  other = model->config();
  other.norm_eps = static_cast<double>(1e-6f);
  ASSERT_EQ(DifferingFields(model->config(), other).size(), 1u);
  EXPECT_TRUE(DifferingFields(model->config(), other)[0].only_rounded);
}

TEST(Gguf, WhatNoStandardKeySaysTravelsAndIsSaid) {
  const auto model = Model::Load(APR_SOURCE_DIR "/testdata/model/gpt2-inverse-layer");
  const TempFolder folder("roundtrip-test");
  const ExportReport report = ExportGguf(model, {.out = folder / "m.gguf"});
  ASSERT_FALSE(report.warnings.empty());
  EXPECT_NE(report.warnings[0].find("apr.scale_attn_by_inverse_layer_idx"), std::string::npos) << report.warnings[0];
  EXPECT_EQ(ModelFile::Open(folder / "m.gguf")->Meta("apr.scale_attn_by_inverse_layer_idx")->AsBool(), true);
}

// transformers saves a base model by itself without the first part of its names.
TEST(BaseModelNames, AModelWithoutTheFirstPartOfItsNamesIsTheSame) {
  for (const std::string name : {"llama", "stablelm-parallel", "deepseek-v3", "olmoe", "gpt2-inverse-layer", "gpt-neox-serial", "gpt-oss", "starcoder2"}) {
    const std::string original = APR_SOURCE_DIR "/testdata/model/" + name;
    const TempFolder temp("base-model-test");
    for (const char* config : {"config.json", "generation_config.json"}) {
      if (fs::exists(fs::path(original) / config)) fs::copy_file(fs::path(original) / config, temp.path() / config);
    }
    const auto file = ModelFile::Open(original + "/model.safetensors");
    std::vector<TensorToWrite> tensors;
    for (const TensorInfo& info : file->tensors()) {
      const size_t dot = info.name.find('.');
      const bool first = std::set<std::string>{"model", "transformer", "gpt_neox"}.contains(info.name.substr(0, dot));
      const std::string stored = first ? info.name.substr(dot + 1) : info.name;
      tensors.push_back({stored, info.dtype, info.shape, [file, &info](const ByteSink& sink) { sink(file->View(info).bytes); }});
    }
    WriteSafetensors((temp.path() / "model.safetensors").string(), tensors, {}, Overwrite::kRefuse);
    const auto model = Model::Load(ModelFile::Open(temp.path().string()));
    EXPECT_EQ(Logits(*model), Logits(*Model::Load(ModelFile::Open(original)))) << name;
    for (const LintIssue& issue : LintModel(ModelFile::Open(temp.path().string())).issues) {
      EXPECT_TRUE(issue.category != "Tensor Naming" && issue.category != "Layout Contract") << name << ": " << issue.message;
    }
  }
  EXPECT_EQ(ExplainTensor("layers.3.self_attn.q_proj.weight").front().layer, 3);
}

}  // namespace
}  // namespace apr
