// Quantisation reports: a model against a copy of itself with weights encoded and decoded again.
#include "eval/quant_report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "model/export_model.h"
#include "quant/quant.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kLlama = APR_SOURCE_DIR "/testdata/model/llama";

TEST(OpErrors, SeparateWhereAnErrorStartsFromWhereItGrows) {
  const auto model = Model::Load(kLlama);
  auto changed = std::make_shared<BoundGraph>(*model->bound());
  // One weight of layer 1 is scaled.
  size_t at = 0;
  for (size_t i = 0; i < changed->graph.nodes.size(); ++i) {
    if (changed->graph.nodes[i].layer == 1 && !changed->graph.nodes[i].weights.empty()) at = i;
  }
  WeightRef& weight = changed->weights[static_cast<size_t>(changed->graph.nodes[at].weights[0])];
  auto scaled = std::make_shared<Tensor>(DType::kF32, weight.view.shape);
  DecodeTensor(weight.view, scaled->f32());
  for (float& x : scaled->f32()) x *= 1.25F;
  weight.view = scaled->view();
  weight.owned = scaled;
  ThreadPool pool(1);
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5};
  int64_t nodes = 0;
  const auto errors = OpErrors(*model->bound(), *changed, ids, pool, [&](int64_t n) { nodes += n; });
  ASSERT_EQ(errors.size(), model->graph().nodes.size());
  EXPECT_EQ(nodes, static_cast<int64_t>(errors.size()));
  for (size_t i = 0; i < errors.size(); ++i) {
    EXPECT_NEAR(errors[i].own, i == at ? 0.25 : 0, 1e-5) << errors[i].node;
    EXPECT_TRUE(errors[i].propagated == 0 || i >= at) << errors[i].node;
  }
  EXPECT_GT(errors.back().propagated, 0);
}

TEST(OpErrors, OtherComputationsAreRefused) {
  ThreadPool pool(1);
  const std::vector<int32_t> ids = {1, 2, 3};
  EXPECT_THROW(OpErrors(*Model::Load(kLlama)->bound(), *Model::Load(APR_SOURCE_DIR "/testdata/model/gemma3")->bound(), ids, pool, {}), Error);
}

TEST(CheapestTypes, IsTheCheapestThatFits) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<TensorChoices> tensors;
    for (int t = 0; t < 4; ++t) {
      TensorChoices one{.tensor = std::to_string(t), .choices = {}, .now = {}};
      for (int c = 0; c < 3; ++c) {
        one.choices.push_back({DType::kF32, 1 + random() % 20, static_cast<double>(random() % 100)});
      }
      tensors.push_back(one);
    }
    const uint64_t budget = 20 + random() % 60;
    double best = INFINITY;
    uint64_t smallest = UINT64_MAX;
    for (int mask = 0; mask < 81; ++mask) {
      uint64_t bytes = 0;
      double cost = 0;
      for (int t = 0, m = mask; t < 4; ++t, m /= 3) {
        bytes += tensors[static_cast<size_t>(t)].choices[static_cast<size_t>(m % 3)].bytes;
        cost += tensors[static_cast<size_t>(t)].choices[static_cast<size_t>(m % 3)].cost;
      }
      smallest = std::min(smallest, bytes);
      if (bytes <= budget) best = std::min(best, cost);
    }
    if (smallest > budget) {
      EXPECT_THROW(PlanTensorTypes(tensors, budget), Error);
      continue;
    }
    const CheapestTypes plan = PlanTensorTypes(tensors, budget);
    EXPECT_LE(plan.bytes, budget);
    EXPECT_GE(plan.cost, best);
    EXPECT_LE(plan.cost, best + 100);  // but for one step
  }
}

// A model in f32 whose weights use all their bits, and a copy of it in bf16.
class Lossy : public testing::Test {
 protected:
  Lossy() : full_(fs::path(testing::TempDir()) / "apr_quant_report_f32"), folder_(fs::path(testing::TempDir()) / "apr_quant_report") {
    fs::remove_all(full_);
    fs::remove_all(folder_);
    ExportSafetensors(Model::Load(kLlama), {.out = full_.string(), .dtype = DType::kF32, .companions = {}});
    FillLowBits((full_ / "model.safetensors").string());
    a_ = Model::Load(full_.string());
    ExportSafetensors(a_, {.out = folder_.string(), .dtype = DType::kBF16, .companions = {}});
    b_ = Model::Load(folder_.string());
    for (int i = 0; i < 60; ++i) ids_.push_back((i * i + 3 * i) % 90);
    options_.compute = {.threads = 1, .precision = Precision::kExact};
    options_.plan = PlanTransformersWindows(60, 60, 60);
    options_.probe_tokens = 40;
  }
  ~Lossy() override {
    fs::remove_all(full_);
    fs::remove_all(folder_);
  }
  static void FillLowBits(const std::string& file) {
    std::string bytes(AsText(MappedFile::Open(file)->bytes()));
    std::mt19937 random(1);
    for (size_t i = 8 + LoadLe<uint64_t>(bytes.data()); i + 4 <= bytes.size(); i += 4) {
      bytes[i] = static_cast<char>(random());
      bytes[i + 1] = static_cast<char>(random());
    }
    WriteTextFile(file, bytes, Overwrite::kAllow);
  }

  fs::path full_, folder_;
  std::shared_ptr<const Model> a_, b_;
  std::vector<int32_t> ids_;
  QuantReportOptions options_;
};

TEST_F(Lossy, EveryFigureIsThere) {
  const QuantReport report = MakeQuantReport(a_, b_, ids_, options_);
  int lossy = 0;
  for (const TensorNoise& t : report.tensors) {
    if (t.row.dtype_b != DType::kBF16) continue;
    ++lossy;
    EXPECT_NEAR(t.sqnr, -20 * std::log10(0.00166), 2) << t.row.name;  // docs/numerics.md
    EXPECT_NEAR(t.sqnr, t.expected_sqnr, 1) << t.row.name;
    EXPECT_EQ(t.row.verdict, WeightVerdict::kExplained);
  }
  EXPECT_GT(lossy, 10);
  EXPECT_EQ(report.costs.size(), static_cast<size_t>(lossy));
  EXPECT_TRUE(std::ranges::is_sorted(report.costs, std::greater<>{}, &TensorCost::kld));
  EXPECT_GT(report.costs.back().kld, 0);
  // Single costs add up to about the whole.
  double sum = 0;
  for (const TensorCost& c : report.costs) sum += c.kld;
  EXPECT_GT(report.divergence.kld.mean, 0.2 * sum);
  EXPECT_LT(report.divergence.kld.mean, 5 * sum);
  EXPECT_GT(report.floor->kld.mean, 0);
  EXPECT_LT(report.floor->kld.mean, 1e-3 * report.divergence.kld.mean);
  for (const OpError& op : report.ops) {
    EXPECT_TRUE(op.op != "linear" || std::abs(op.own - 0.00166) < 0.001) << op.node << op.own;
  }
  const Json json = report.ToJson();
  for (const char* key : {"schema", "tensors", "ops", "logits", "floor", "costs", "suggestion"}) EXPECT_TRUE(json.contains(key)) << key;
  const std::string page = report.ToHtml();
  EXPECT_NE(page.find("mean KLD"), std::string::npos);
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos);
}

// A tensor that is worse than its type: seen in its own row, op and cost before all others.
TEST_F(Lossy, ABadTensorStandsOut) {
  options_.floor_tokens = 0;
  const std::string file = (folder_ / "model.safetensors").string();
  if (!fs::exists(file)) GTEST_SKIP() << "the copy has several shards";
  // Two bytes of each element: the first rows of one matrix are negated.
  const auto model = ModelFile::Open(folder_.string());
  const TensorInfo* info = model->Find("model.layers.1.mlp.down_proj.weight");
  ASSERT_NE(info, nullptr);
  const Bytes bytes = model->View(*info).bytes;
  std::string whole(AsText(MappedFile::Open(file)->bytes()));
  const size_t found = whole.find(std::string(AsText(bytes.first(64))));
  ASSERT_NE(found, whole.npos);
  for (size_t i = 1; i < bytes.size() / 4; i += 2) whole[found + i] = static_cast<char>(whole[found + i] ^ 0x80);
  WriteTextFile(file, whole, Overwrite::kAllow);
  const QuantReport report = MakeQuantReport(a_, Model::Load(folder_.string()), ids_, options_);
  EXPECT_EQ(report.costs.front().tensor, info->name);
  EXPECT_GT(report.costs.front().kld, 10 * report.costs[1].kld);
  const auto worst = std::ranges::max_element(report.ops, {}, &OpError::own);
  EXPECT_EQ(worst->tensors.at(0), info->name);
  EXPECT_EQ(std::ranges::min_element(report.tensors, {}, &TensorNoise::sqnr)->row.name, info->name);
}

TEST_F(Lossy, ASuggestionNeedsNamesOfAGguf) {
  options_.suggest = true;
  options_.floor_tokens = 0;
  EXPECT_THROW(MakeQuantReport(a_, b_, ids_, options_), Error);
}

}  // namespace
}  // namespace apr
