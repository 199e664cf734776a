// Single cases of the walk: what is merged into one finding, what counts as compared, and what is noted instead.
#include <gtest/gtest.h>

#include "compare/bisect/recorded_model.h"
#include "compare/bisect/walk.h"

namespace apr::bisect {
namespace {

// What a walk over `run` leaves behind; `slots`: those of A.
Bisection Walked(RecordedModel& m, RecordedRun& run, const SlotTable& slots) {
  Bisection b;
  b.pool = &m.pool;
  Evaluator evaluator = m.Over(run);
  Walk(b, evaluator, slots, BindWalkModel(m.side.config, *m.side.architecture, slots, m.side.file)).Run();
  b.pool = nullptr;
  return b;
}
Bisection Walked(RecordedModel& m, RecordedRun& run) { return Walked(m, run, m.side.slots); }

// A run of an engine that lacks these biases.
HeldRun WithoutBiases(const RecordedModel& m, const std::vector<SlotKey>& slots) {
  std::map<SlotKey, WeightRef> zeros;
  for (const SlotKey& slot : slots) {
    auto tensor = std::make_shared<Tensor>(DType::kF32, m.side.slots.slots.at(slot).weight.view.shape);
    zeros[slot] = {.view = tensor->view(), .owned = tensor};
  }
  return HeldRun(*m.RunOf(*WithWeights(*m.model, zeros)));
}

TEST(WalkCase, OneCauseInEveryLayerIsOneFinding) {
  RecordedModel m("qwen2");
  HeldRun run = WithoutBiases(m, {{Slot::kQBias, 0}, {Slot::kQBias, 1}});
  const Bisection b = Walked(m, run);
  ASSERT_EQ(b.report.findings.size(), 1);
  EXPECT_EQ(b.report.findings[0].cause->name, "missing_bias");
  EXPECT_NE(b.report.findings[0].first.note.find("in 2 layers"), std::string::npos) << b.report.findings[0].first.note;
}

TEST(WalkCase, TensorsThatDifferInMoreThanTheirLayerAreTwoFindings) {
  RecordedModel m("qwen2");
  HeldRun run = WithoutBiases(m, {{Slot::kQBias, 0}, {Slot::kKBias, 1}});
  const Bisection b = Walked(m, run);
  ASSERT_EQ(b.report.findings.size(), 2);
  EXPECT_EQ(b.report.findings[0].first.tensor, "model.layers.0.self_attn.q_proj.bias");
  EXPECT_EQ(b.report.findings[1].first.tensor, "model.layers.1.self_attn.k_proj.bias");
  for (const Finding& f : b.report.findings) EXPECT_EQ(f.first.note.find("layers"), std::string::npos) << f.first.note;
}

// One of two layers is not every layer.
TEST(WalkCase, ACauseInOneLayerSaysNothingOfTheOthers) {
  RecordedModel m("qwen2");
  HeldRun run = WithoutBiases(m, {{Slot::kQBias, 1}});
  const Bisection b = Walked(m, run);
  ASSERT_EQ(b.report.findings.size(), 1);
  EXPECT_EQ(b.report.findings[0].first.layer, 1);
  EXPECT_EQ(b.report.findings[0].first.note.find("layers"), std::string::npos) << b.report.findings[0].first.note;
}

TEST(WalkCase, OneStageIsEnoughAndItsRoundingIsSeen) {
  RecordedModel m("llama");
  HeldRun one(m.run, [](const std::string& n) { return n == "layer-0/embedding"; });
  Bisection b = Walked(m, one);
  EXPECT_EQ(b.report.coverage.stages_compared, 1);
  EXPECT_EQ(std::ranges::count(b.report.coverage.phases, Phase::kOps), 1);
  EXPECT_EQ(b.report.coverage.stages_absent.size() + 1, m.graph().stages.size());
  EXPECT_FALSE(b.rounding) << "every element is equal";
  EXPECT_TRUE(b.report.findings.empty());
  one.Values("layer-0/embedding")[5] *= 1 + 1e-9;
  b = Walked(m, one);
  EXPECT_TRUE(b.rounding);
  EXPECT_TRUE(b.report.findings.empty());
  one.Values("layer-0/embedding")[5] *= 1.5;
  EXPECT_EQ(Walked(m, one).report.findings.size(), 1);
}

// A stage of another size is a finding; one that lacks a weight is a note; neither leaves the rest open.
TEST(WalkCase, WhatCannotBeComputedIsNoted) {
  RecordedModel m("llama");
  SlotTable slots = m.side.slots;
  slots.slots.erase({Slot::kDown, 0});
  const Bisection noted = Walked(m, m.run, slots);
  EXPECT_TRUE(noted.report.findings.empty());
  EXPECT_EQ(noted.report.coverage.notes, std::vector<std::string>{"layer-0/ffn_out could not be computed: model.layers.0.mlp.down_proj.weight"});
  EXPECT_TRUE(noted.inconclusive.empty());
  HeldRun longer(m.run);
  longer.Values("layer-1/ffn_up").resize(7);
  const Bisection wrong = Walked(m, longer);
  ASSERT_EQ(wrong.report.findings.size(), 1);
  EXPECT_EQ(wrong.report.findings[0].first.stage, "ffn_up");
  EXPECT_TRUE(wrong.report.coverage.notes.empty());
  EXPECT_TRUE(wrong.inconclusive.empty());
}

}  // namespace
}  // namespace apr::bisect
