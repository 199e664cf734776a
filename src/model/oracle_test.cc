// Models against what PyTorch computes for them in true float64: testdata/model everywhere, and
// ../shared/oracle/model where it is present.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "exec/executor.h"
#include "model/architecture.h"
#include "model/model.h"
#include "model/oracle_values.h"
#include "quant/quant.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr const char* kShared = APR_SOURCE_DIR "/../shared/oracle/model";
constexpr const char* kOwn = APR_SOURCE_DIR "/testdata/model";

constexpr double kOwnFloor = 8.9e-14;

class CollectStages final : public TapSink {
 public:
  bool Wants(const Stage&) const override { return true; }
  void Take(const Stage& stage, const TensorView& data) override {
    shapes[stage.Path()] = data.shape;
    values[stage.Path()] = Widen(data);
  }
  std::map<std::string, Shape> shapes;
  std::map<std::string, std::vector<double>> values;
};

struct Case {
  std::string folder;
  std::string name;
};

void PrintTo(const Case& each, std::ostream* out) { *out << each.name; }

std::vector<Case> Cases() {
  std::vector<Case> out;
  for (const char* root : {kOwn, kShared}) {
    if (!fs::is_directory(root)) continue;
    for (const auto& entry : fs::directory_iterator(root)) {
      if (!fs::exists(entry.path() / "expected.safetensors")) continue;
      const std::string model = entry.path().string();
      std::ifstream in(model + "/config.json");
      const Json config = Json::parse(in);
      if (FindByModelType(config.at("model_type").get<std::string>()) == nullptr) continue;
      std::string name = (root == kOwn ? "own_" : "shared_") + entry.path().filename().string();
      std::replace_if(name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
      out.push_back({model, name});
    }
  }
  std::sort(out.begin(), out.end(), [](const Case& a, const Case& b) { return a.name < b.name; });
  return out;
}

class ModelOracle : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    model_ = Model::Load(GetParam().folder);
    expected_ = ModelFile::Open(GetParam().folder + "/expected.safetensors");
    std::ifstream in(GetParam().folder + "/expected.json");
    checks_ = Json::parse(in).at("checks");
  }

  std::vector<double> Logits(ExecutorKind kind, const std::vector<int32_t>& ids, TapSink* taps = nullptr) const {
    const auto executor = Executor::Create(kind, model_->bound(), {.threads = 2, .precision = Precision::kExact});
    const Chunk chunk{executor->NewSequence(), ids, static_cast<int64_t>(ids.size())};
    return Widen(executor->Forward({&chunk, 1}, taps).view());
  }

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const ModelFile> expected_;
  Json checks_;
};

TEST_P(ModelOracle, EverythingInTheFileIsUsed) {
  EXPECT_EQ(model_->unread_tensors(), std::vector<std::string>());
  EXPECT_EQ(model_->unread_keys(), std::vector<std::string>());
}

TEST_P(ModelOracle, ReferenceIsTrueFloat64) {
  for (const std::string which : {"one", "short", "long"}) {
    const std::vector<double> logits = Logits(ExecutorKind::kReference, Ids(*expected_, "ids." + which));
    // `long` is stored rounded to f32.
    EXPECT_LE(Nmse(logits, Decode(*expected_, "logits_f64." + which)), which == "long" ? 1e-13 : 1e-20) << which;
  }
}

TEST_P(ModelOracle, ExactIsAsGoodAsPyTorchF32) {
  for (const std::string which : {"one", "short", "long"}) {
    const std::vector<double> logits = Logits(ExecutorKind::kCpu, Ids(*expected_, "ids." + which));
    // PyTorch's own error on a few dozen logits scatters by chance: never below what one rounding per
    // operation of such a model leaves, (5 * 2^-24)^2.
    const double pytorch = std::max(checks_.at(which).at("nmse_f32_vs_f64").get<double>(), kOwnFloor);
    const double bound = 4 * (GetParam().name.rfind("own_", 0) == 0 ? pytorch : checks_.at(which).at("nmse_f32_vs_f64").get<double>());
    EXPECT_LE(Nmse(logits, Decode(*expected_, "logits_f64." + which)), bound) << which;
  }
}

TEST_P(ModelOracle, EveryStageAgreesElementByElement) {
  const auto stages = ModelFile::Open(GetParam().folder + "/stages.safetensors");
  const std::vector<int32_t> ids = Ids(*expected_, "ids.short");
  const double short_error = std::sqrt(checks_.at("short").at("nmse_f32_vs_f64").get<double>());
  for (const ExecutorKind kind : {ExecutorKind::kReference, ExecutorKind::kCpu}) {
    CollectStages got;
    Logits(kind, ids, &got);
    EXPECT_EQ(got.values.size(), stages->tensors().size());
    for (const TensorInfo& info : stages->tensors()) {
      const std::string path = info.name.substr(std::string("stage.").size());
      ASSERT_TRUE(got.values.count(path)) << path;
      EXPECT_EQ(got.shapes[path], info.shape) << path;
      const std::vector<double> want = Decode(*stages, info.name);
      const std::vector<double>& have = got.values[path];
      double square = 0;
      for (const double v : want) square += v * v;
      const double rms = std::sqrt(square / static_cast<double>(want.size()));
      // Stored as f32 (half a unit in the last place); the cpu may be off by what PyTorch's f32 is
      // off at the logits, at single elements some times its root mean square.
      for (size_t i = 0; i < want.size(); ++i) {
        const double room = 6.1e-8 * std::abs(want[i]) + (kind == ExecutorKind::kCpu ? 30 * short_error * rms + 1e-7 * rms : 1e-12 * rms);
        ASSERT_TRUE(std::abs(have[i] - want[i]) <= room)
            << ExecutorName(kind) << " " << path << "[" << i << "]: " << have[i] << " for " << want[i];
      }
    }
  }
}

TEST_P(ModelOracle, GreedyIdsAreEqual) {
  const std::vector<int32_t> ids = Ids(*expected_, "ids.greedy");
  const auto prompt = checks_.at("greedy").at("prompt").get<size_t>();
  for (const ExecutorKind kind : {ExecutorKind::kReference, ExecutorKind::kCpu}) {
    const auto executor = Executor::Create(kind, model_->bound(), {.threads = 2, .precision = Precision::kExact});
    const int sequence = executor->NewSequence();
    std::vector<int32_t> made(ids.begin(), ids.begin() + static_cast<int64_t>(prompt));
    std::vector<int32_t> next = made;
    while (made.size() < ids.size()) {
      const auto total = static_cast<int64_t>(made.size());
      if (executor->IsStale(sequence, total)) {
        executor->Truncate(sequence, 0);
        next = made;
      }
      const Chunk chunk{sequence, next, 1};
      const std::vector<double> logits = Widen(executor->Forward({&chunk, 1}).view());
      next = {static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin())};
      made.push_back(next[0]);
    }
    EXPECT_EQ(made, ids) << ExecutorName(kind);
  }
}

// The comparison above is worth nothing if it cannot fail.
TEST_P(ModelOracle, AWrongConstantIsSeen) {
  const std::vector<int32_t> ids = Ids(*expected_, "ids.short");
  auto wrong = std::make_shared<BoundGraph>(*model_->bound());
  for (Node& node : wrong->graph.nodes) {
    if (node.name != "layer-1/attention") continue;
    auto attributes = node.attributes->Clone();
    attributes->SetReal("scale", 1.001 * model_->config().attention_scale);
    node.attributes = std::move(attributes);
  }
  const auto executor = Executor::Create(ExecutorKind::kReference, wrong, {.threads = 1});
  const Chunk chunk{executor->NewSequence(), ids, static_cast<int64_t>(ids.size())};
  const double nmse = Nmse(Widen(executor->Forward({&chunk, 1}).view()), Decode(*expected_, "logits_f64.short"));
  EXPECT_GT(nmse, 1e-14);
}

INSTANTIATE_TEST_SUITE_P(All, ModelOracle, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& each) { return each.param.name; });

TEST(ModelOracleData, SharedOraclesArePresent) {
  if (!fs::is_directory(kShared)) GTEST_SKIP() << "no ../shared/oracle/model: only the models of testdata were checked";
  EXPECT_GE(Cases().size(), 12u);
}

}  // namespace
}  // namespace apr
