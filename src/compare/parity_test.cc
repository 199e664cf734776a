// Parity and sweep: measures of known vectors, agreement of the real executors, and every regime shown to
// fail by an engine with a planted fault.
#include "compare/parity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "base/temp_folder.h"
#include "compare/run_capture.h"
#include "compare/sweep.h"
#include "generate/session.h"
#include "model/export_model.h"
#include "op/attention/attention.h"

namespace apr {
namespace {

std::string ModelPath(const std::string& name) { return APR_SOURCE_DIR "/testdata/model/" + name; }

ParityMetric Measure(const std::vector<double>& a, const std::vector<double>& b, double allowed = 1e-3) { return MeasureParity(a, b, allowed); }

TEST(Parity, VerdictsFollowTheirBounds) {
  const std::vector<double> a = {1, 2, 3, 10, 0, 0, 0, 0};
  EXPECT_EQ(Measure(a, a).verdict, ParityVerdict::kPass);
  EXPECT_EQ(Measure(a, a).kl, 0);
  EXPECT_TRUE(std::isinf(Measure(a, a).cpk)) << "no spread at all";
  std::vector<double> b = a;
  b[3] = std::nan("");
  EXPECT_EQ(Measure(a, b).verdict, ParityVerdict::kFailNan);
  EXPECT_EQ(Measure(b, a).verdict, ParityVerdict::kFailNan);
  EXPECT_EQ(Measure(b, b).verdict, ParityVerdict::kFailNan) << "NaN on both sides is no agreement";
  b[3] = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Measure(a, b).verdict, ParityVerdict::kFailNan);
  b = {10, 3, 2, 1, 0, 0, 0, 0};
  EXPECT_EQ(Measure(a, b, 100).verdict, ParityVerdict::kFailCatastrophic);
  b = {3, 2, 3, 9, 0, 2, 1, 2};  // cosine 0.93
  EXPECT_EQ(Measure(a, b, 100).verdict, ParityVerdict::kFailDivergent);
  b = a;
  b[0] = 1.1;
  EXPECT_EQ(Measure(a, b, 1e-3).verdict, ParityVerdict::kFailFormats) << "a good cosine, and more than rounding";
  EXPECT_EQ(Measure(a, b, 0.1).verdict, ParityVerdict::kPass);
  b = a;
  for (double& v : b) v *= 1.5;
  EXPECT_EQ(Measure(a, b, 10).verdict, ParityVerdict::kWarnOutOfSpec);
  b = {1, 2, 3, 10, 10.01, 0, 0, 0};
  EXPECT_EQ(Measure({1, 2, 3, 10, 9.99, 0, 0, 0}, b, 0.1).verdict, ParityVerdict::kNearTie);
  EXPECT_EQ(Measure({1, 0, 0, 1.3}, {1.3, 0, 0, 1}, 1).verdict, ParityVerdict::kWarnArgmax);
}

TEST(Parity, FormatsAndWhatIsWorseAreFailures) {
  using enum ParityVerdict;
  for (const ParityVerdict verdict : {kPass, kNearTie, kWarnArgmax, kWarnOutOfSpec}) EXPECT_FALSE(IsFailure(verdict)) << ParityVerdictName(verdict);
  for (const ParityVerdict verdict : {kFailFormats, kFailDivergent, kFailCatastrophic, kFailNan}) EXPECT_TRUE(IsFailure(verdict)) << ParityVerdictName(verdict);
}

TEST(Parity, TheDiagnosisFollowsWhichPositionsFail) {
  using enum ParityVerdict;
  const auto said = [](std::initializer_list<ParityVerdict> verdicts) {
    ParityReport report;
    for (const ParityVerdict verdict : verdicts) report.metrics.push_back({.verdict = verdict});
    return report.Diagnosis();
  };
  const std::string all = said({kFailFormats, kFailNan}), first = said({kFailFormats, kPass}), later = said({kPass, kPass, kFailNan, kFailDivergent}),
                    some = said({kPass, kFailNan, kPass});
  EXPECT_EQ(said({kPass, kWarnArgmax}), "");
  EXPECT_NE(all.find("Every"), std::string::npos) << all;
  EXPECT_NE(first.find("Position 0"), std::string::npos) << first;
  EXPECT_EQ(said({kFailNan}), first) << "of one position nobody can say that all differ";
  EXPECT_NE(later.find("from 2 on"), std::string::npos) << later;
  EXPECT_NE(some.find("Some"), std::string::npos) << some;
  EXPECT_NE(said({kPass, kFailNan}).find("from 1 on"), std::string::npos);
  ParityReport counted;
  for (const ParityVerdict verdict : {kPass, kNearTie, kWarnArgmax, kWarnOutOfSpec, kWarnArgmax, kFailNan}) counted.metrics.push_back({.verdict = verdict});
  EXPECT_EQ(counted.warned(), 3);
  EXPECT_EQ(counted.failed(), 1);
}

TEST(Parity, DivergenceOfKnownDistributions) {
  const double ln2 = std::log(2.0);
  // softmax (2/3, 1/3) against (1/2, 1/2).
  const ParityMetric m = Measure({ln2, 0}, {0, 0}, 1);
  EXPECT_NEAR(m.kl, 2.0 / 3 * std::log(4.0 / 3) + 1.0 / 3 * std::log(2.0 / 3), 1e-12);
  EXPECT_EQ(m.max_abs, ln2);
  // Differences -ln2 and 0: mean -ln2 / 2, deviation ln2 / 2.
  EXPECT_NEAR(m.sigma, 4.0 / (ln2 / 2), 1e-9);
  EXPECT_NEAR(m.cpk, (4.0 - ln2 / 2) / (3 * ln2 / 2), 1e-9);
}

TEST(Parity, EnginesAreSpelledInParts) {
  EXPECT_EQ(ParseParityEngine("reference").executor, ExecutorKind::kReference);
  EXPECT_EQ(ParseParityEngine("cpu:exact").precision, Precision::kExact);
  EXPECT_EQ(ParseParityEngine("cpu:exact:scalar").isa, "scalar");
  EXPECT_EQ(ParseParityEngine("reference:scalar").isa, "scalar");
  for (const char* wrong : {"", "gpu", "cpu:", "cpu:slow", "reference:exact"}) EXPECT_THROW(ParseParityEngine(wrong), Error) << wrong;
  try {
    ParseParityEngine("cuda");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotBuilt);
  }
}

ParityRequest Request(const std::string& model, const char* a, const char* b) {
  ParityRequest request;
  request.model = Model::Load(ModelPath(model));
  request.a = ParseParityEngine(a);
  request.b = ParseParityEngine(b);
  for (int32_t id = 1; id <= 12; ++id) request.ids.push_back(id * 7 % static_cast<int32_t>(request.model->config().vocab_size));
  request.per_op = true;
  request.threads = 1;
  return request;
}

TEST(Parity, ExecutorsAndInstructionSetsAgree) {
  for (const char* model : {"llama", "gemma3", "qwen2-moe-sparse-step"}) {
    for (const char* b : {"cpu:exact", "cpu:fast", "cpu:exact:scalar"}) {
      const ParityReport report = RunParity(Request(model, "reference", b));
      EXPECT_TRUE(report.parity()) << model << " " << b;
      EXPECT_FALSE(report.first) << model << " " << report.first->name;
      EXPECT_GT(report.stages, 20);
      EXPECT_EQ(report.metrics.size(), 12u);
    }
  }
}

// The model's graph with another attention scale in layer 1.
std::shared_ptr<const BoundGraph> WithAttentionScale(const Model& model, double factor) {
  auto changed = std::make_shared<BoundGraph>(*model.bound());
  int edited = 0;
  for (Node& node : changed->graph.nodes) {
    const auto* attention = dynamic_cast<const AttributesOf<AttentionAttributes>*>(node.attributes.get());
    if (attention == nullptr || node.layer != 1) continue;
    AttentionAttributes value = attention->value;
    value.scale *= factor;
    node.attributes = std::make_shared<AttributesOf<AttentionAttributes>>(value);
    ++edited;
  }
  EXPECT_EQ(edited, 1);
  return changed;
}

TEST(Parity, OnlyInt8ActivationsOnQuantisedWeightsMayErrMore) {
  const TempFolder folder("parity-test");
  ExportGguf(Model::Load(ModelPath("llama")), {.out = folder / "q8.gguf", .choose = [](const std::string&, const Shape& shape, DType) { return shape.ndim() == 2 && shape[1] % 32 == 0 ? DType::kQ8_0 : DType::kF32; }});
  const auto allowed = [&](bool quantised, const char* a, const char* b) {
    ParityRequest request = Request("llama", a, b);
    if (quantised) request.model = Model::Load(folder / "q8.gguf");
    request.per_op = false;
    return RunParity(request).allowed;
  };
  const double exact = allowed(false, "reference", "cpu:exact"), fast = allowed(true, "reference", "cpu:fast");
  EXPECT_LT(exact, 0.1 * fast);
  EXPECT_EQ(allowed(true, "cpu:fast", "reference"), fast);
  EXPECT_EQ(allowed(true, "reference", "cpu:exact"), exact);
  EXPECT_EQ(allowed(false, "reference", "cpu:fast"), exact);
}

TEST(Parity, ABoundItselfIsAllowed) {
  EXPECT_EQ(Measure({2, 0}, {1, 0}, 0.5).verdict, ParityVerdict::kPass);
  EXPECT_EQ(Measure({100, 0}, {104, 0}, 1).verdict, ParityVerdict::kPass) << "4 is the limit of a logit's difference";
}

// Row and column of the largest difference, and its two values, from runs made here.
TEST(Parity, TheWorstPlaceOfTheFirstStageIsNamed) {
  ParityRequest request = Request("llama", "reference", "cpu:exact");
  const auto changed = WithAttentionScale(*request.model, 3);
  request.graph_b = changed;
  const ParityReport report = RunParity(request);
  ASSERT_TRUE(report.first);
  const auto run = [&](ExecutorKind executor, std::shared_ptr<const BoundGraph> graph) {
    StageCapture taps(true);
    Session session(request.model, {.executor = executor, .compute = {.threads = 1, .precision = Precision::kExact}, .chunk = 0}, std::move(graph));
    session.Append(session.NewSequence(), request.ids, static_cast<int64_t>(request.ids.size()), &taps);
    const Stage& stage = *std::ranges::find_if(request.model->bound()->graph.stages, [&](const Stage& x) { return StageLabel(x) == report.first->name; });
    return *taps.Find(stage);
  };
  const StageCapture::Values a = run(ExecutorKind::kReference, nullptr), b = run(ExecutorKind::kCpu, changed);
  ASSERT_EQ(report.first->coordinate.size(), 2u);
  const int64_t at = report.first->coordinate[0] * a.width + report.first->coordinate[1];
  EXPECT_LT(report.first->coordinate[1], a.width);
  const auto difference = [&](int64_t i) { return std::abs(a.data[static_cast<size_t>(i)] - b.data[static_cast<size_t>(i)]); };
  for (int64_t i = 0; i < static_cast<int64_t>(a.data.size()); ++i) {
    ASSERT_FALSE(std::isfinite(difference(i)) && difference(i) > difference(at)) << i;
  }
  EXPECT_EQ(report.first->a, a.data[static_cast<size_t>(at)]);
  EXPECT_EQ(report.first->b, b.data[static_cast<size_t>(at)]);
}

TEST(Parity, AChangedConstantFailsAndItsStageIsNamed) {
  ParityRequest request = Request("llama", "reference", "cpu:exact");
  const auto changed = WithAttentionScale(*request.model, 3);
  request.graph_b = changed;
  const ParityReport report = RunParity(request);
  EXPECT_FALSE(report.parity());
  ASSERT_TRUE(report.first);
  EXPECT_EQ(report.first->name, "layer-1/attn_scores");
  EXPECT_NE(report.Diagnosis(), "");
  EXPECT_EQ(report.ToJson()["first_differing_stage"]["stage"], "layer-1/attn_scores");
  EXPECT_EQ(report.ToJson()["parity"], false);
}

// --- Sweep ---------------------------------------------------------------------------------------------

SweepRequest SweepOf(const std::string& model) {
  SweepRequest request;
  request.model = Model::Load(ModelPath(model));
  request.options.compute = {.threads = 2, .precision = Precision::kExact};
  request.repeats = 20;
  return request;
}

TEST(Sweep, EveryRegimeGivesTheSameBits) {
  for (const char* model : {"llama", "gemma3", "llama-yarn-bias", "phi3-partial-longrope", "mistral", "deepseek-v3"}) {
    const SweepReport report = RunSweep(SweepOf(model));
    EXPECT_EQ(report.different(), 0) << DumpJson(report.ToJson());
    EXPECT_GT(report.compared(), 12) << model;
  }
}

TEST(Sweep, WindowsAndLongPositionsAreReached) {
  const auto has = [](const SweepReport& report, const std::string& start) {
    return std::any_of(report.results.begin(), report.results.end(), [&](const SweepResult& r) {
      return r.regime.starts_with(start) && r.status == SweepResult::Status::kSame && r.tokens > 0;
    });
  };
  EXPECT_TRUE(has(RunSweep(SweepOf("gemma3")), "window edge "));
  EXPECT_TRUE(has(RunSweep(SweepOf("llama-yarn-bias")), "past the original context"));
  SweepRequest brief = SweepOf("llama");
  brief.seconds = 1e-9;
  const SweepReport none = RunSweep(brief);
  EXPECT_EQ(none.compared(), 0) << "no time: everything is skipped, and said";
  EXPECT_EQ(none.ToJson()["passed"], false) << "nothing compared is no success";
}

// Breaks one promise: the last logit of a pass is off when `breaks` says so of it.
struct Pass {
  const SessionOptions& options;
  size_t pieces;
  int64_t tokens, held;
  int runs;       // passes of this engine so far
  bool truncated; // the sequence was cut back
};
class FaultyEngine final : public SweepEngine {
 public:
  FaultyEngine(std::unique_ptr<SweepEngine> inner, SessionOptions options, std::function<bool(const Pass&)> breaks)
      : inner_(std::move(inner)), options_(options), breaks_(std::move(breaks)) {}
  int NewSequence() override {
    const int sequence = inner_->NewSequence();
    held_[sequence] = 0;
    return sequence;
  }
  void FreeSequence(int sequence) override { inner_->FreeSequence(sequence); }
  void Truncate(int sequence, int64_t length) override {
    inner_->Truncate(sequence, length);
    held_[sequence] = length;
    truncated_ = true;
  }
  std::vector<double> Append(std::span<const Piece> pieces, TapSink* taps) override {
    std::vector<double> out = inner_->Append(pieces, taps);
    const auto tokens = static_cast<int64_t>(pieces[0].ids.size());
    if (breaks_({options_, pieces.size(), tokens, held_[pieces[0].sequence], ++runs_, truncated_})) out.back() += 1e-3;
    held_[pieces[0].sequence] += tokens;
    return out;
  }

 private:
  std::unique_ptr<SweepEngine> inner_;
  SessionOptions options_;
  std::function<bool(const Pass&)> breaks_;
  std::map<int, int64_t> held_;
  int runs_ = 0;
  bool truncated_ = false;
};

TEST(Sweep, EveryRegimeIsShownToFail) {
  struct Case {
    const char* model;
    const char* regime;
    std::function<bool(const Pass&)> breaks;
  };
  const std::vector<Case> cases = {
      {"llama", "decode", [](const Pass& p) { return p.tokens == 1; }},
      {"llama", "chunks of 7", [](const Pass& p) { return p.tokens == 7 && p.held == 14; }},
      {"llama", "batch", [](const Pass& p) { return p.pieces > 1; }},
      {"llama", "restored cache", [](const Pass& p) { return p.truncated; }},
      {"llama", "3 threads", [](const Pass& p) { return p.options.compute.threads == 3; }},
      {"llama", "context of 96", [](const Pass& p) { return p.options.context == 96; }},
      {"llama", "repeat", [](const Pass& p) { return p.runs == 9 && p.tokens == 48; }},
      {"gemma3", "window edge 5, decode", [](const Pass& p) { return p.tokens == 1 && p.held == 5; }},
      {"llama-yarn-bias", "past the original context", [](const Pass& p) { return p.tokens == 1 && p.held >= 64; }},
  };
  for (const Case& c : cases) {
    SweepRequest request = SweepOf(c.model);
    const SweepEngineFactory real = SessionEngines(request.model);
    request.engines = [&](const SessionOptions& options) { return std::make_unique<FaultyEngine>(real(options), options, c.breaks); };
    const SweepReport report = RunSweep(request);
    const bool found = std::any_of(report.results.begin(), report.results.end(), [&](const SweepResult& r) {
      return r.regime.starts_with(c.regime) && r.status == SweepResult::Status::kDifferent && r.first_token && r.max_abs > 1e-4;
    });
    EXPECT_TRUE(found) << c.regime << "\n" << DumpJson(report.ToJson());
  }
}

// A fault inside the computation shows its first stage: a graph whose attention scale depends on the schedule.
TEST(Sweep, TheFirstStageThatDiffersIsNamed) {
  SweepRequest request = SweepOf("llama");
  const auto changed = WithAttentionScale(*request.model, 1.5);
  class GraphEngine final : public SweepEngine {
   public:
    GraphEngine(const SweepRequest& r, const SessionOptions& options, std::shared_ptr<const BoundGraph> graph) : session_(r.model, options, std::move(graph)) {}
    int NewSequence() override { return session_.NewSequence(); }
    void FreeSequence(int sequence) override { session_.FreeSequence(sequence); }
    void Truncate(int sequence, int64_t length) override { session_.Truncate(sequence, length); }
    std::vector<double> Append(std::span<const Piece> pieces, TapSink* taps) override {
      const Tensor logits = session_.Append(pieces[0].sequence, pieces[0].ids, pieces[0].logits, taps);
      const auto* data = reinterpret_cast<const float*>(logits.view().bytes.data());
      return {data, data + logits.view().shape.num_elements()};
    }

   private:
    Session session_;
  };
  request.engines = [&](const SessionOptions& options) {
    return std::make_unique<GraphEngine>(request, options, options.compute.threads == 3 ? changed : nullptr);
  };
  const SweepReport report = RunSweep(request);
  for (const SweepResult& r : report.results) {
    if (r.regime != "3 threads") continue;
    EXPECT_EQ(r.status, SweepResult::Status::kDifferent);
    ASSERT_TRUE(r.first);
    EXPECT_EQ(r.first->name, "layer-1/attention");
    EXPECT_EQ(r.first->token, 1) << "token 0 attends to itself alone";
    return;
  }
  ADD_FAILURE() << "no regime of 3 threads";
}

}  // namespace
}  // namespace apr
