// Causes in the key/value cache: recorded scores and results are computed again with rows of the cache that are another
// position's, empty or foreign; the walk must name it, and not where only noise was added.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "compare/bisect/attention_pieces.h"
#include "compare/bisect/bisection.h"
#include "compare/bisect/walk.h"
#include "op/attention/attention.h"

namespace apr::bisect {
namespace {

// Another run with one stage changed.
class Altered : public RecordedRun {
 public:
  Altered(RecordedRun& run, std::string name, std::vector<double> values) : run_(run), name_(std::move(name)) {
    stage_ = *run_.Find(name_);
    stage_.values = std::move(values);
  }
  const RecordedStage* Find(const std::string& name) override { return name == name_ ? &stage_ : run_.Find(name); }
  bool Has(const std::string& name) const override { return run_.Has(name); }
  std::vector<std::string> Names() const override { return run_.Names(); }
  void Forget(int) override {}

 private:
  RecordedRun& run_;
  std::string name_;
  RecordedStage stage_;
};

class StaleCache : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr int64_t kTokens = 30;
  using Change = std::function<void(std::vector<double>& rows, int64_t width)>;

  void SetUp() override {
    side_ = OpenSide((std::filesystem::path(APR_SOURCE_DIR) / "testdata" / "model" / GetParam()).string());
    model_ = BindWalkModel(side_.config, *side_.architecture, side_.slots, side_.file);
    for (int64_t i = 0; i < kTokens; ++i) ids_.push_back(static_cast<int32_t>((i * 29 + 7) % side_.config.vocab_size));
    run_ = RecordRun(ExecutorKind::kCpu, {model_, &model_->bound}, ids_, {.threads = 1, .precision = Precision::kExact});
  }

  const Node& Attention() const {
    for (const Node& node : model_->bound.graph.nodes) {
      if (node.op == &AttentionOp() && node.layer == 1) return node;
    }
    throw std::logic_error("no attention");
  }

  // The first finding where layer 1's `stage` was computed with a cache that `change` spoilt.
  Report Walked(const std::string& stage, const Change& change) {
    StageManifest manifest;
    manifest.precision = {.weights = "", .activations = "f32", .accumulate = "f32"};
    Evaluator sound(*run_, ids_, FormatsOf(manifest), pool_);
    const Variation plain{.model = model_};
    const Node& node = Attention();
    const auto& a = node.As<AttentionAttributes>();
    const Stage* at = model_->bound.graph.FindStage(stage, 1);
    const auto index = static_cast<int>(at - model_->bound.graph.stages.data());
    const bool scores = stage == "attn_scores";
    std::vector<double> rows = *sound.ValueBefore(plain, node.inputs[scores ? 1 : 2], index);
    change(rows, static_cast<int64_t>(rows.size()) / kTokens);
    const std::vector<double>& other = scores ? run_->Find("layer-1/q_post_rope")->values : run_->Find("layer-1/attn_softmax")->values;
    std::vector<double> values = scores ? AttentionScores(a, {}, other, rows, kTokens, pool_) : AttentionOutput(a, {}, other, rows, kTokens, pool_);
    for (double& v : values) v = static_cast<float>(v);
    Altered altered(*run_, at->Path(), std::move(values));
    Bisection b;
    b.pool = &pool_;
    Evaluator evaluator(altered, ids_, FormatsOf(manifest), pool_);
    Walk(b, evaluator, side_.slots, model_).Run();
    return std::move(b.report);
  }

  void Expect(const std::string& stage, const char* cause, const Change& change) {
    const Report report = Walked(stage, change);
    ASSERT_FALSE(report.findings.empty()) << stage;
    EXPECT_EQ(report.findings[0].first.stage, stage);
    EXPECT_EQ(report.findings[0].first.layer, 1);
    ASSERT_EQ(report.findings[0].cause.has_value(), cause != nullptr) << stage;
    if (cause != nullptr) {
      EXPECT_EQ(report.findings[0].cause->name, cause) << report.findings[0].cause->evidence;
    }
  }

  ThreadPool pool_{1};
  Side side_;
  std::shared_ptr<const WalkModel> model_;
  std::vector<int32_t> ids_;
  std::unique_ptr<RecordedRun> run_;
};

constexpr const char* kStages[] = {"attn_scores", "attention"};

TEST_P(StaleCache, SoundIsLeftAlone) {
  for (const char* stage : kStages) EXPECT_TRUE(Walked(stage, [](std::vector<double>&, int64_t) {}).findings.empty());
}

TEST_P(StaleCache, RowsOfAnotherPosition) {
  for (const char* stage : kStages) {
    Expect(stage, "stale_cache", [](std::vector<double>& rows, int64_t width) {
      const std::vector<double> old = rows;
      std::copy_n(old.begin() + 3 * width, width, rows.begin() + 8 * width);
      std::copy_n(old.begin() + 12 * width, width, rows.begin() + 9 * width);
    });
  }
}

TEST_P(StaleCache, EmptyRows) {
  for (const char* stage : kStages) {
    Expect(stage, "stale_cache", [](std::vector<double>& rows, int64_t width) { std::fill_n(rows.begin() + 5 * width, 3 * width, 0.0); });
  }
}

TEST_P(StaleCache, RowsOfNoPosition) {
  for (const char* stage : kStages) {
    Expect(stage, "stale_cache", [](std::vector<double>& rows, int64_t width) {
      for (int64_t i = 2 * width; i < 6 * width; ++i) rows[static_cast<size_t>(i)] = std::sin(static_cast<double>(i * i));
    });
  }
}

// Where every row is foreign nothing is shown: as many unknowns explain anything.
TEST_P(StaleCache, TooManyForeignRowsAreNoExplanation) {
  for (const char* stage : kStages) {
    Expect(stage, nullptr, [](std::vector<double>& rows, int64_t) {
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = std::sin(static_cast<double>(i * i));
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Models, StaleCache, ::testing::Values("llama", "gemma2", "qwen3"));

}  // namespace
}  // namespace apr::bisect
