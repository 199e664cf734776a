// Traces: the same files every time, both executors agree, and a fault planted in one op is found at
// that op's stage and layer.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "base/json.h"
#include "cli/program_under_test.h"
#include "compare/stage_diff.h"
#include "generate/session.h"
#include "generate/trace.h"
#include "graph/op.h"
#include "op/attention/attention.h"
#include "op/context.h"

namespace apr {
namespace {

std::string ModelPath(const std::string& name) { return std::string(APR_SOURCE_DIR "/testdata/model/") + name; }

const std::vector<int32_t> kIds = {3, 17, 42, 8, 55, 21, 9};

// Writes every stage of a pass to `folder`.
void TraceTo(const std::string& folder, const std::shared_ptr<const Model>& model, ExecutorKind kind,
             const std::shared_ptr<const BoundGraph>& graph = nullptr) {
  Session session(model, {.executor = kind, .compute = {.threads = 1, .precision = Precision::kExact}, .chunk = 0}, graph);
  StageDirectoryWriter writer(folder,
                              {.engine = "test",
                               .model = model->file().path(),
                               .architecture = model->config().architecture,
                               .precision = PrecisionOf(*model, kind, Precision::kExact),
                               .ids = {kIds.begin(), kIds.end()}},
                              Overwrite::kRefuse);
  const StageSelection all{ParseStageNames("all"), {0, model->config().num_layers}};
  const Graph& traced = session.executor().model().graph;
  TraceSink sink(traced, [](const Stage&) { return false; }, all, &writer);
  session.Append(session.NewSequence(), kIds, static_cast<int64_t>(kIds.size()), &sink);
  writer.Finish();
  EXPECT_EQ(sink.written().size(), traced.stages.size());
}

// Does what `inner` does and then makes one of its outputs 1 % larger.
class ScalingOp final : public Op {
 public:
  ScalingOp(const Op& inner, size_t output) : inner_(inner), output_(output) {}
  const char* name() const override { return inner_.name(); }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override { return inner_.Infer(node, graph); }
  void Reference(const OpContext<double>& context) const override { inner_.Reference(context); }
  std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext& context) const override {
    return inner_.PrepareCpu(context);
  }
  void Cpu(const OpContext<float>& context) const override {
    inner_.Cpu(context);
    for (float& x : context.outputs[output_]) x *= 1.01F;
  }

 private:
  const Op& inner_;
  size_t output_;
};

// The stage that must be named when the value `id` is wrong: the first one that shows it.
std::string FirstStageWith(const Graph& graph, ValueId id) {
  for (const Stage& stage : graph.stages) {
    if (std::ranges::find(stage.parts, id) != stage.parts.end()) return stage.Path();
  }
  return "";
}

class Traces : public testing::TestWithParam<std::string> {
 protected:
  std::shared_ptr<const Model> model_ = Model::Load(ModelPath(GetParam()));
  ScratchFolder scratch_{"trace", ScratchFolder::Place::kMemory};
};

TEST_P(Traces, TheSameFilesEveryTime) {
  const auto trace = [&](const std::string& folder) {
    return RunApr({"trace", ModelPath(GetParam()), "--ids", "3,17,42,8", "--save-tensor", "all", "--save-tensor-layers",
                   "0..2", "--save-tensor-dir", scratch_ / folder, "--quiet"});
  };
  ASSERT_EQ(trace("a").code, 0);
  ASSERT_EQ(trace("b").code, 0);
  int files = 0;
  for (const std::string& name : scratch_.Names()) {
    if (!name.starts_with("a/")) continue;
    EXPECT_EQ(ReadText(scratch_ / name), ReadText(scratch_ / fmt::format("b{}", name.substr(1)))) << name;
    ++files;
  }
  EXPECT_GT(files, 30);
  EXPECT_EQ(trace("a").code, 5);  // never over an earlier one unasked
}

TEST_P(Traces, ReferenceAndCpuAgree) {
  TraceTo(scratch_ / "reference", model_, ExecutorKind::kReference);
  TraceTo(scratch_ / "cpu", model_, ExecutorKind::kCpu);
  const StageDirectoryDiff diff = DiffStageDirectories(scratch_ / "reference", scratch_ / "cpu", std::nullopt);
  EXPECT_TRUE(diff.agree()) << (diff.first < 0 ? "nothing compared" : diff.rows[static_cast<size_t>(diff.first)].name);
  EXPECT_EQ(diff.rows.size(), model_->graph().stages.size());
  EXPECT_TRUE(diff.only_a.empty() && diff.only_b.empty());
}

TEST_P(Traces, APlantedFaultIsFoundWhereItIs) {
  const Graph& graph = model_->graph();
  TraceTo(scratch_ / "reference", model_, ExecutorKind::kReference);
  const int layer = static_cast<int>(model_->config().num_layers) - 1;
  int planted = 0;
  for (const Stage& stage : graph.stages) {
    if (stage.layer >= 0 && stage.layer != layer && stage.name != "embedding") continue;
    const ValueId id = stage.parts.back();
    const int producer = graph.values[static_cast<size_t>(id)].producer;
    auto faulty = std::make_shared<BoundGraph>(*model_->bound());
    Node& node = faulty->graph.nodes[static_cast<size_t>(producer)];
    if (node.op == &AttentionOp()) continue;  // next test
    const auto output = static_cast<size_t>(std::ranges::find(node.outputs, id) - node.outputs.begin());
    const ScalingOp op(*node.op, output);
    node.op = &op;
    const std::string folder = scratch_ / fmt::format("fault-{}", planted++);
    TraceTo(folder, model_, ExecutorKind::kCpu, faulty);
    const StageDirectoryDiff diff = DiffStageDirectories(scratch_ / "reference", folder, std::nullopt);
    ASSERT_GE(diff.first, 0) << stage.Path();
    EXPECT_EQ(diff.rows[static_cast<size_t>(diff.first)].name, FirstStageWith(graph, id)) << node.name;
  }
  EXPECT_GE(planted, 14);
}

TEST_P(Traces, AWrongAttentionScaleIsFoundInTheScores) {
  TraceTo(scratch_ / "reference", model_, ExecutorKind::kReference);
  auto faulty = std::make_shared<BoundGraph>(*model_->bound());
  const auto at = std::ranges::find_if(faulty->graph.nodes, [](const Node& n) { return n.op == &AttentionOp() && n.layer == 1; });
  ASSERT_NE(at, faulty->graph.nodes.end());
  auto attributes = at->attributes->Clone();
  attributes->SetReal("scale", at->As<AttentionAttributes>().scale * 1.01);
  at->attributes = std::move(attributes);
  TraceTo(scratch_ / "fault", model_, ExecutorKind::kCpu, faulty);
  const StageDirectoryDiff diff = DiffStageDirectories(scratch_ / "reference", scratch_ / "fault", std::nullopt);
  ASSERT_GE(diff.first, 0);
  EXPECT_EQ(diff.rows[static_cast<size_t>(diff.first)].name, "layer-1/attn_scores");
}

INSTANTIATE_TEST_SUITE_P(Models, Traces, testing::Values("llama", "mistral", "qwen2", "qwen3", "gemma3"),
                         [](const auto& param_info) { return param_info.param; });

TEST(Trace, TheFlagsAreCheckedBeforeTheModelIsLoaded) {
  const auto expect = [](std::vector<std::string> flags, const std::string& message) {
    flags.insert(flags.begin(), {"trace", "no-such-model", "--ids", "1"});
    const ProgramResult result = RunApr(flags);
    EXPECT_EQ(result.code, 2) << result.err;
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
  };
  expect({"--save-tensor", "attn_nrom"}, "unknown stage 'attn_nrom'; valid: all, layer_output, embedding, attn_norm");
  expect({"--save-tensor", "attn_norm,,lm_head"}, "empty stage name");
  for (const char* range : {"3..3", "2..1", "-1..2", "1", "a..b", "1..2x"}) {
    expect({"--save-tensor", "all", std::string("--save-tensor-layers=") + range}, "layer range");
  }
  expect({"--save-tensor-dir", "x"}, "--save-tensor");
}

TEST(Trace, NamesAliasesAndRangesChooseWhatIsWritten) {
  const ScratchFolder scratch("names");
  const std::string folder = scratch / "stages";
  ASSERT_EQ(RunApr({"trace", ModelPath("llama"), "--ids", "1,2", "--save-tensor", " Layer_Output ,LM_HEAD",
                    "--save-tensor-layers", "1..2", "--save-tensor-dir", folder})
                .code,
            0);
  const std::vector<std::string> wanted = {"stages/layer-1/post_ffn_residual.bin", "stages/lm_head.bin", "stages/stages.json"};
  EXPECT_EQ(scratch.Names(), wanted);
}

TEST(Trace, WithoutTokensNothingIsClaimed) {
  const Json document = RunApr({"trace", ModelPath("llama"), "--json"}).Document();
  EXPECT_EQ(document["stats_source"], "metadata-only");
  EXPECT_FALSE(document["notes"].empty());
  for (const Json& layer : document["layers"]) EXPECT_TRUE(layer["output_stats"].is_null());
}

TEST(Capture, SaysHowAndFindsWhatIsWrongWithAFolder) {
  const ProgramResult how = RunApr({"capture"});
  EXPECT_EQ(how.code, 0);
  EXPECT_NE(how.out.find("tools/capture_stages.py MODEL_DIR"), std::string::npos);
  EXPECT_NE(how.out.find("tools/capture_llama_cpp.py MODEL.gguf"), std::string::npos);

  const ScratchFolder scratch("capture");
  const std::string folder = scratch / "stages";
  ASSERT_EQ(RunApr({"trace", ModelPath("llama"), "--ids", "1,2,3", "--save-tensor", "all", "--save-tensor-dir", folder}).code, 0);
  const ProgramResult whole = RunApr({"capture", folder, "--json"});
  EXPECT_EQ(whole.code, 0) << whole.out;
  EXPECT_EQ(whole.Document()["tokens"], 3);
  EXPECT_TRUE(whole.Document()["problems"].empty());

  std::filesystem::remove(folder + "/final_norm.bin");
  WriteStageFile(folder + "/lm_head.bin", kWholeModel, std::vector<float>(5), Overwrite::kAllow);
  const StageFile good = ReadStageFile(folder + "/layer-0/attn_out.bin");
  std::vector<float> bad = good.values;
  bad[3] = NAN;
  WriteStageFile(folder + "/layer-0/attn_out.bin", good.layer, bad, Overwrite::kAllow);
  const ProgramResult spoilt = RunApr({"capture", folder});
  EXPECT_EQ(spoilt.code, 5) << spoilt.out;
  for (const char* said : {"layer-0/attn_out: 1 of", "final_norm: ", "lm_head: "}) EXPECT_NE(spoilt.out.find(said), std::string::npos) << spoilt.out;
  EXPECT_EQ(std::ranges::count(spoilt.out, '\n'), 4) << spoilt.out;
}

}  // namespace
}  // namespace apr
