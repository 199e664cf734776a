// Real models against PyTorch: SmolLM2-135M (GGUF Q4_1) and Gemma-3-270m (GGUF Q4_K_M) from the folder
// that APR_REAL_MODELS names, expectations from ../shared/oracle/real; and stories260K.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/json.h"
#include "exec/executor.h"
#include "model/model.h"
#include "model/oracle_values.h"
#include "quant/quant.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

int32_t ArgMax(std::span<const double> row) {
  return static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

struct RealModel {
  const char* oracle;  // folder under ../shared/oracle/real
  const char* file;
  // NMSE of llama.cpp's logits against true float64 with an f32 cache: what rounding activations to int8 costs the
  // field's usual engine on this file (measured at llama.cpp d32676d).
  std::map<std::string, double> llama_cpp;
};

void PrintTo(const RealModel& each, std::ostream* out) { *out << each.file; }

class RealModelTest : public testing::TestWithParam<RealModel> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("APR_REAL_MODELS");
    if (folder == nullptr) GTEST_SKIP() << "APR_REAL_MODELS is not set: no folder with the real models";
    const std::string path = std::string(folder) + "/" + GetParam().file;
    if (!fs::exists(path)) GTEST_SKIP() << path << " is absent";
    const std::string oracle = std::string(APR_SOURCE_DIR "/../shared/oracle/real/") + GetParam().oracle;
    if (!fs::is_directory(oracle)) GTEST_SKIP() << "no ../shared/oracle/real";
    model_ = Model::Load(path);
    expected_ = ModelFile::Open(oracle + "/expected.safetensors");
    std::ifstream in(oracle + "/expected.json");
    cases_ = Json::parse(in).at("cases");
  }

  std::unique_ptr<Executor> MakeExecutor(ExecutorKind kind, Precision precision = Precision::kExact) const {
    return Executor::Create(kind, model_->bound(), {.threads = 2, .precision = precision});
  }

  // NMSE of a case's last logits.
  double CaseNmse(const std::string& name, Precision precision) const {
    const std::vector<int32_t> ids = Ids(*expected_, "ids." + name);
    const std::vector<double> want = Decode(*expected_, "logits_last." + name);
    const int64_t rows = static_cast<int64_t>(want.size()) / model_->config().vocab_size;
    const auto executor = MakeExecutor(ExecutorKind::kCpu, precision);
    const Chunk chunk{executor->NewSequence(), ids, rows};
    return Nmse(Widen(executor->Forward({&chunk, 1}).view()), want);
  }

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const ModelFile> expected_;
  Json cases_;
};

TEST_P(RealModelTest, ExactLogitsAreAsGoodAsPyTorchF32) {
  EXPECT_EQ(model_->unread_tensors(), std::vector<std::string>());
  for (const auto& [name, info] : cases_.items()) {
    const double nmse = CaseNmse(name, Precision::kExact);
    const double pytorch = info.at("nmse_f32_vs_f64").get<double>();
    EXPECT_LE(nmse, 4 * pytorch) << name;
    RecordProperty("nmse_over_pytorch_" + name, std::to_string(nmse / pytorch));
  }
}

// The default precision errs as rounding to int8 must: about as much as llama.cpp over the cases, on none far more.
TEST_P(RealModelTest, FastErrsNoMoreThanLlamaCpp) {
  double log_ratio = 0;
  for (const auto& [name, info] : cases_.items()) {
    const double nmse = CaseNmse(name, Precision::kFast);
    const double ratio = nmse / GetParam().llama_cpp.at(name);
    EXPECT_LE(ratio, 4) << name;
    EXPECT_GE(nmse, 1e-6) << name << ": nothing was rounded";
    log_ratio += std::log(ratio);
  }
  EXPECT_LE(std::exp(log_ratio / static_cast<double>(cases_.size())), 1.5);
}

TEST_P(RealModelTest, GreedyIdsAreEqual) {
  for (const auto& [name, info] : cases_.items()) {
    const std::vector<int32_t> want = Ids(*expected_, "greedy." + name);
    const auto executor = MakeExecutor(ExecutorKind::kCpu);
    const int sequence = executor->NewSequence();
    std::vector<int32_t> next = Ids(*expected_, "ids." + name);
    std::vector<int32_t> made;
    while (made.size() < want.size()) {
      const Chunk chunk{sequence, next, 1};
      next = {ArgMax(Widen(executor->Forward({&chunk, 1}).view()))};
      made.push_back(next[0]);
    }
    EXPECT_EQ(made, want) << name;
  }
}

// The f64 definition itself on a real model, where the prompt is short enough to wait for.
TEST_P(RealModelTest, ReferenceIsTrueFloat64) {
  const std::vector<int32_t> ids = Ids(*expected_, "ids.fact");
  const std::vector<double> want = Decode(*expected_, "logits_last.fact");
  const int64_t rows = static_cast<int64_t>(want.size()) / model_->config().vocab_size;
  const auto executor = MakeExecutor(ExecutorKind::kReference);
  const Chunk chunk{executor->NewSequence(), ids, rows};
  // The expectation is rounded to f32: NMSE about 1e-15.
  EXPECT_LE(Nmse(Widen(executor->Forward({&chunk, 1}).view()), want), 1e-14);
}

INSTANTIATE_TEST_SUITE_P(All, RealModelTest,
                         testing::Values(RealModel{"smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf",
                                                   {{"fact", 4.2e-3}, {"code", 3.5e-4}, {"chat", 5.6e-4}, {"long", 6.5e-4}}},
                                         RealModel{"gemma3-270m", "gemma-3-270m-q4_k_m.gguf",
                                                   {{"fact", 6.1e-4}, {"code", 1.2e-3}, {"long", 1.2e-3}}}),
                         [](const testing::TestParamInfo<RealModel>& each) {
                           std::string name = each.param.oracle;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Stories260K, GreedyAndLogitsAreEqual) {
  const std::string folder = APR_SOURCE_DIR "/../shared/models/stories260K";
  if (!fs::is_directory(folder)) GTEST_SKIP() << "no ../shared/models/stories260K";
  std::ifstream in(folder + "/expected.json");
  const Json expected = Json::parse(in);
  const auto model = Model::Load(folder + "/stories260K.gguf");
  const auto executor = Executor::Create(ExecutorKind::kCpu, model->bound(), {.threads = 2, .precision = Precision::kExact});
  const int sequence = executor->NewSequence();
  auto next = expected.at("prompt_ids").get<std::vector<int32_t>>();
  const auto want = expected.at("generated_ids").get<std::vector<int32_t>>();
  std::vector<int32_t> made;
  while (made.size() < want.size()) {
    const Chunk chunk{sequence, next, 1};
    const std::vector<double> logits = Widen(executor->Forward({&chunk, 1}).view());
    if (made.empty()) {
      const auto prompt_logits = expected.at("prompt_last_logits").get<std::vector<double>>();
      EXPECT_LE(Nmse(logits, prompt_logits), 1e-11);
    }
    next = {ArgMax(logits)};
    made.push_back(next[0]);
  }
  EXPECT_EQ(made, want);
}

}  // namespace
}  // namespace apr
