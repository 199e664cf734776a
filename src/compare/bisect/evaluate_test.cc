// Values of the teacher-forced evaluation: whatever part of a sound run was recorded, every stage follows from it as the
// reference executor computed it; and what a variation says is what happens. The errors: evaluate_error_test.cc.
#include <gtest/gtest.h>

#include <set>

#include "compare/bisect/attention_pieces.h"
#include "compare/bisect/recorded_model.h"
#include "op/attention/attention.h"
#include "op/linear/linear.h"
#include "op/moe/moe_experts.h"
#include "op/moe/moe_route.h"
#include "op/norm/norm.h"

namespace apr::bisect {
namespace {

using Keep = std::function<bool(const std::string&)>;

const std::map<std::string, Keep> kParts = {
    {"everything", [](const std::string&) { return true; }},
    {"nothing", [](const std::string&) { return false; }},
    {"layers", [](const std::string& n) { return n.ends_with("/post_ffn_residual"); }},
    {"one half", [](const std::string& n) { return std::hash<std::string>()(n) % 2 == 0; }},
    {"the other", [](const std::string& n) { return std::hash<std::string>()(n) % 2 == 1; }},
    {"no experts", [](const std::string& n) { return n.find("moe_router") == std::string::npos; }},
};

// Scores of keys that no query sees are of no interest.
void HideUnseen(const RecordedModel& m, const Stage& stage, std::vector<double>& values) {
  if (stage.name != "attn_scores") return;
  const auto tokens = static_cast<int64_t>(m.ids.size());
  const auto& a = m.NodeOf(AttentionOp(), stage.layer).As<AttentionAttributes>();
  for (int64_t i = 0; i < std::ssize(values); ++i) {
    const KeyRange keys = VisibleKeys(a, {}, i / tokens % tokens, tokens);
    if (i % tokens < keys.first || i % tokens > keys.last) values[static_cast<size_t>(i)] = 0;
  }
}

class EvaluateModel : public ::testing::TestWithParam<std::string> {};

TEST_P(EvaluateModel, EveryStageFollowsFromAnyPartOfTheRun) {
  RecordedModel m(GetParam());
  for (const auto& [part, keep] : kParts) {
    HeldRun kept(m.run, keep);
    Evaluator evaluator = m.Over(kept);
    for (size_t i = 0; i < m.graph().stages.size(); ++i) {
      const Stage& stage = m.graph().stages[i];
      auto got = evaluator.Evaluate(m.plain(), static_cast<int>(i));
      ASSERT_TRUE(got) << part << " " << stage.Path() << " " << evaluator.missing();
      std::vector<double> expected = m.run.Values(stage.Path());
      ASSERT_EQ(got->rows * got->width, std::ssize(expected)) << stage.Path();
      const bool by_heads = stage.name == "attn_scores" || stage.name == "attn_softmax";
      EXPECT_EQ(by_heads ? got->width : got->rows, std::ssize(m.ids)) << stage.Path();
      HideUnseen(m, stage, expected);
      HideUnseen(m, stage, got->values);
      EXPECT_LT(Apart(got->values, expected), 1e-9) << part << " " << stage.Path();
    }
  }
}

// The nodes that are said to be computed are those that a rule is asked about.
TEST_P(EvaluateModel, TheConeHoldsTheNodesThatAreComputed) {
  RecordedModel m(GetParam(), 6);
  for (const auto& [part, keep] : kParts) {
    HeldRun kept(m.run, keep);
    Evaluator evaluator = m.Over(kept);
    for (size_t i = 0; i < m.graph().stages.size(); ++i) {
      std::set<int> asked;
      Variation v = m.plain();
      v.rules.emplace_back([&](const NodeCall& call, std::vector<double>&) {
        asked.insert(static_cast<int>(&call.node - m.graph().nodes.data()));
        return false;
      });
      ASSERT_TRUE(evaluator.Evaluate(v, static_cast<int>(i)));
      EXPECT_EQ(evaluator.Cone(m.plain(), static_cast<int>(i)), std::vector<int>(asked.begin(), asked.end()))
          << part << " " << m.graph().stages[i].Path();
    }
  }
}

// A rule that changes every node stops the later ones and reaches the result.
TEST_P(EvaluateModel, TheFirstRuleThatChangesANodeIsTheOnlyOne) {
  RecordedModel m(GetParam(), 6);
  Evaluator evaluator = m.Over(m.run);
  for (size_t i = 0; i < m.graph().stages.size(); ++i) {
    const std::vector<int> cone = evaluator.Cone(m.plain(), static_cast<int>(i));
    if (m.graph().stages[i].name == "moe_router_indices" || cone.empty()) continue;
    int second = 0;
    Variation v = m.plain();
    v.rules.emplace_back([](const NodeCall& call, std::vector<double>& out) {
      EXPECT_EQ(call.rows, 6);
      for (double& x : out) x = 7;
      return true;
    });
    v.rules.emplace_back([&](const NodeCall&, std::vector<double>&) { return ++second > 0; });
    const auto got = evaluator.Evaluate(v, static_cast<int>(i));
    ASSERT_TRUE(got);
    EXPECT_EQ(second, 0);
    EXPECT_EQ(got->values, std::vector<double>(got->values.size(), 7)) << m.graph().stages[i].Path();
  }
}

TEST_P(EvaluateModel, LogitsOfTheLastPositions) {
  RecordedModel m(GetParam());
  for (const int64_t rows : {1, 3}) {
    HeldRun last(m.run);
    std::set<std::string> cut;
    for (const Stage& stage : m.graph().stages) {
      if (stage.layer >= 0) continue;
      RecordedStage& held = last.stages.at(stage.Path());
      const int64_t width = std::ssize(held.values) / std::ssize(m.ids);
      held.values.erase(held.values.begin(), held.values.end() - rows * width);
      held.shape = Shape{rows, width};
      cut.insert(stage.Path());
    }
    ASSERT_TRUE(cut.contains("lm_head") && cut.contains("final_norm"));
    HeldRun unfinished(last);
    unfinished.stages.erase("lm_head");
    EXPECT_EQ(m.Over(unfinished).Evaluate(m.plain(), m.Index("final_norm", -1))->rows, rows);
    for (const bool recorded : {true, false}) {  // the norm that the logits are computed from
      if (!recorded) last.stages.erase("final_norm");
      Evaluator evaluator = m.Over(last);
      const auto got = evaluator.Evaluate(m.plain(), m.Index("lm_head", -1));
      ASSERT_TRUE(got);
      EXPECT_EQ(got->rows, rows);
      EXPECT_LT(Apart(got->values, last.Values("lm_head")), 1e-9);
    }
  }
}

// All weights in eight bits, in one model, by a variation and by what the run declares.
TEST_P(EvaluateModel, WeightsLoadedInANarrowerType) {
  RecordedModel m(GetParam());
  const FloatType f8 = *FloatTypeFromName("f8");
  std::map<SlotKey, WeightRef> rounded;
  for (size_t i = 0; i < m.model->slots.size(); ++i) {
    const WeightRef& weight = m.model->bound.weights[i];
    auto tensor = std::make_shared<Tensor>(DType::kF64, weight.view.shape);
    std::ranges::transform(ReadWeightF64(weight), tensor->f64().begin(), [&](double v) { return RoundTo(f8, v); });
    rounded[m.model->slots[i]] = {.view = tensor->view(), .owned = tensor};
  }
  const auto expected = m.RunOf(*WithWeights(*m.model, rounded));
  ASSERT_GT(Apart(m.run.Values("lm_head"), expected->Find("lm_head")->values), 1e-5);
  HeldRun nothing;
  Variation narrow = m.plain();
  narrow.narrow.weights = f8;
  RunFormats loads = FormatsOf({});
  loads.weight_rounding = f8;
  Evaluator by_variation = m.Over(nothing), by_run = m.Over(nothing, loads);
  const int last = static_cast<int>(m.graph().stages.size()) - 1;
  EXPECT_LT(Apart(by_variation.Evaluate(narrow, last)->values, expected->Find(m.graph().stages.back().Path())->values), 1e-9);
  EXPECT_LT(Apart(by_run.Evaluate(m.plain(), last)->values, expected->Find(m.graph().stages.back().Path())->values), 1e-9);
}

INSTANTIATE_TEST_SUITE_P(All, EvaluateModel, ::testing::ValuesIn(SmallModels()), [](const auto& of) {
  std::string name = of.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

// What a stage of another size holds is not used.
TEST(Evaluate, AStageOfAnotherSizeIsAsIfItWereNotThere) {
  RecordedModel m("llama");
  const std::map<std::string, std::string> uses = {
      {"attn_norm", "qkv_matmul"}, {"qkv_bias", "q_post_rope"}, {"attn_scores", "attn_softmax"}, {"attn_softmax", "attention"}};
  for (const auto& [stage, user] : uses) {
    for (const bool longer : {true, false}) {
      HeldRun other(m.run, [&, stage = stage](const std::string& n) { return n != "layer-1/qkv_matmul" || stage != "qkv_bias"; });
      std::vector<double>& values = other.Values("layer-1/" + stage);
      std::ranges::fill(values, 1e3);
      values.resize(longer ? values.size() + 1 : values.size() - 1);
      Evaluator evaluator = m.Over(other);
      const auto got = evaluator.Evaluate(m.plain(), m.Index(user, 1));
      ASSERT_TRUE(got);
      EXPECT_LT(Apart(got->values, m.run.Values("layer-1/" + user)), 1e-9) << stage;
    }
  }
}

// The nearest stage before is read, one beside or behind is not.
TEST(Evaluate, TheLatestOfTheStagesBeforeIsRead) {
  RecordedModel m("llama");  // qkv_bias records what qkv_matmul does: it has no biases
  HeldRun changed(m.run);
  for (double& v : changed.Values("layer-1/qkv_matmul")) v *= 3;
  for (double& v : changed.Values("layer-1/qkv_bias")) v *= 6;
  Evaluator evaluator = m.Over(changed);
  EXPECT_LT(Apart(evaluator.Evaluate(m.plain(), m.Index("qkv_matmul", 1))->values, m.run.Values("layer-1/qkv_matmul")), 1e-9);
  EXPECT_EQ(evaluator.Evaluate(m.plain(), m.Index("qkv_bias", 1))->values, changed.Values("layer-1/qkv_matmul"));
  const ValueId q = m.graph().stages[static_cast<size_t>(m.Index("qkv_bias", 1))].parts[0];
  const auto q_of = [&](int limit) { return *evaluator.ValueBefore(m.plain(), q, limit); };
  std::vector<double> q_itself = q_of(m.Index("qkv_matmul", 1)), q_three = q_of(m.Index("qkv_bias", 1)), q_six = q_of(m.Index("qkv_bias", 1) + 1);
  for (double& v : q_three) v /= 3;
  for (double& v : q_six) v /= 6;
  EXPECT_LT(Apart(q_three, q_itself), 1e-9);
  EXPECT_LT(Apart(q_six, q_itself), 1e-9);
}

TEST(Evaluate, WhatIsMissingIsSaid) {
  const std::vector<std::tuple<const char*, SlotKey, std::string>> cases = {
      {"llama", {Slot::kAttnNorm, 1}, "layer-1/attn_norm"}, {"llama", {Slot::kDown, 0}, "layer-0/ffn_out"},
      {"gpt-oss", {Slot::kSinks, 1}, "layer-1/attn_softmax"}, {"olmoe", {Slot::kExpertUp, 1, 3}, "layer-1/moe_ffn_out"},
      {"llama", {Slot::kTokenEmbedding}, "layer-0/embedding"}};
  for (const auto& [name, slot, path] : cases) {
    RecordedModel m(name);
    const auto without = WithWeights(*m.model, {{slot, WeightRef{}}});
    Evaluator evaluator = m.Over(m.run);
    for (size_t i = 0; i < m.graph().stages.size(); ++i) {
      const Stage& stage = m.graph().stages[i];
      const bool tied = slot.slot == Slot::kTokenEmbedding && stage.name == "lm_head";
      EXPECT_EQ(evaluator.Evaluate({.model = without}, static_cast<int>(i)).has_value(), stage.Path() != path && !tied) << name << " " << stage.Path();
    }
    EXPECT_FALSE(evaluator.missing().empty());
    if (slot.slot == Slot::kDown) {
      EXPECT_EQ(evaluator.missing(), "model.layers.0.mlp.down_proj.weight");
      EXPECT_FALSE(evaluator.Spread({.model = without}, m.Index("ffn_out", 0)));
      EXPECT_TRUE(evaluator.Spread({.model = without}, m.Index("ffn_out", 1)));
    }
  }
  RecordedModel m("llama");
  Evaluator evaluator = m.Over(m.run);
  EXPECT_FALSE(evaluator.ValueBefore(m.plain(), Graph::kTokenIds, 5));
  EXPECT_EQ(evaluator.missing(), "token ids");
}

// Products that are kept belong to their weight, its order of rows and its addition, and to no variation.
TEST(Evaluate, AKeptProductIsOfTheSameWeight) {
  RecordedModel m("llama");
  Evaluator evaluator = m.Over(m.run);
  const int index = m.Index("ffn_up", 1);
  const SlotKey slot{Slot::kUp, 1};
  const WeightRef weight = m.side.slots.slots.at(slot).weight;
  const auto with = [&](const WeightRef& w) { return evaluator.Evaluate({.model = WithWeights(*m.model, {{slot, w}})}, index)->values; };
  const std::vector<double> plain = evaluator.Evaluate(m.plain(), index)->values;
  WeightRef added = weight, turned = weight;
  added.add = 1;
  auto order = std::make_shared<std::vector<int32_t>>();
  for (int64_t r = weight.rows(); r-- > 0;) order->push_back(static_cast<int32_t>(r));
  turned.row_order = order;
  const std::vector<double> sums = with(added), reversed = with(turned);
  const auto width = static_cast<size_t>(weight.rows());
  for (size_t i = 0; i < plain.size(); ++i) {
    double row = 0;
    const std::vector<double>& x = m.run.Values("layer-1/ffn_norm");
    for (int64_t k = 0; k < weight.cols(); ++k) row += x[i / width * static_cast<size_t>(weight.cols()) + static_cast<size_t>(k)];
    ASSERT_NEAR(sums[i], plain[i] + row, 1e-9);
    ASSERT_NEAR(reversed[i], plain[i / width * width + width - 1 - i % width], 1e-12);
  }
  Variation narrow = m.plain();
  narrow.narrow.int8_block = 32;
  EXPECT_GT(Apart(evaluator.Evaluate(narrow, index)->values, plain), 1e-4);
  narrow.narrow = {.inputs = FloatTypeFromName("bf16")};
  EXPECT_GT(Apart(evaluator.Evaluate(narrow, index)->values, plain), 1e-4);
  narrow.narrow = {.weights = FloatTypeFromName("f8")};
  EXPECT_GT(Apart(evaluator.Evaluate(narrow, index)->values, plain), 1e-4);
  EXPECT_GT(Apart(evaluator.Evaluate(m.plain(), index, 1)->values, plain), 1e-9);
  evaluator.ForgetProducts();
  Variation ruled = m.plain();
  ruled.rules.emplace_back([](const NodeCall&, std::vector<double>& out) { return out[0] = 1e3, true; });
  EXPECT_EQ(evaluator.Evaluate(ruled, index)->values[0], 1e3);
  EXPECT_EQ(evaluator.Evaluate(m.plain(), index)->values, plain);
  // Of recorded values, until they are forgotten; a product of computed ones is never kept.
  for (double& v : m.run.Values("layer-1/ffn_norm")) v *= 2;
  EXPECT_EQ(evaluator.Evaluate(m.plain(), index)->values, plain);
  evaluator.ForgetProducts();
  EXPECT_GT(Apart(evaluator.Evaluate(m.plain(), index)->values, plain), 0.5);
}

// An independent rounding to int8 with one scale for `block` elements of a row.
std::vector<double> Int8(std::vector<double> x, size_t width, size_t block) {
  for (size_t i = 0; i < x.size(); i += i % width + block < width ? block : width - i % width) {
    const size_t end = i + std::min(block, width - i % width);
    double largest = 0;
    for (size_t j = i; j < end; ++j) largest = std::max(largest, std::abs(x[j]));
    for (size_t j = i; j < end && largest > 0; ++j) x[j] = std::round(x[j] * 127 / largest) * largest / 127;
  }
  return x;
}

TEST(Evaluate, NarrowStepsRoundWhatTheySay) {
  RecordedModel m("llama");
  m.run.Values("layer-1/ffn_norm")[3] = 40;  // a scale of its own
  std::fill_n(m.run.Values("layer-1/ffn_norm").begin() + 64, 5, 0.0);
  const int up = m.Index("ffn_up", 1);
  const FloatType f8 = *FloatTypeFromName("f8");
  Evaluator evaluator = m.Over(m.run);
  const auto after = [&](const NarrowSteps& narrow, int index) {
    Variation v = m.plain();
    v.narrow = narrow;
    return evaluator.Evaluate(v, index)->values;
  };
  const auto of_input = [&](const std::vector<double>& x) {
    HeldRun edited(m.run);
    edited.Values("layer-1/ffn_norm") = x;
    return m.Over(edited).Evaluate(m.plain(), up)->values;
  };
  const std::vector<double>& x = m.run.Values("layer-1/ffn_norm");
  std::vector<double> rounded = x;
  for (double& v : rounded) v = RoundTo(f8, v);
  EXPECT_LT(Apart(after({.inputs = f8}, up), of_input(rounded)), 1e-12);
  const int64_t five = 5, whole = 32;
  EXPECT_LT(Apart(after({.int8_block = five}, up), of_input(Int8(x, 32, 5))), 1e-12);
  EXPECT_LT(Apart(after({.int8_block = 1}, up), of_input(x)), 1e-12);
  EXPECT_LT(Apart(after({.int8_block = -1}, up), of_input(Int8(x, 32, 32))), 1e-12);
  EXPECT_EQ(after({.int8_block = -1}, up), after({.int8_block = whole}, up));
  EXPECT_EQ(after({.int8_block = 5}, m.Index("ffn_norm", 1)), after({}, m.Index("ffn_norm", 1))) << "products only";
  std::vector<double> out = after({}, up);
  for (double& v : out) v = RoundTo(f8, v);
  EXPECT_EQ(after({.outputs = f8}, up), out);
  for (const char* name : {"attn_scores", "attention"}) {
    std::vector<double> result = after({}, m.Index(name, 1));
    for (double& v : result) v = RoundTo(f8, v);
    EXPECT_EQ(after({.outputs = f8}, m.Index(name, 1)), result);
  }
}

// Numbers of experts are not rounded, neither as a result nor on their way into the experts.
TEST(Evaluate, NumbersOfExpertsAreNotRounded) {
  RecordedModel m("olmoe");
  const FloatType coarse{.name = "coarse", .unit = 0.5, .largest = 1e9, .smallest = 0, .bits = 1};
  ASSERT_NE(RoundTo(coarse, 3), 3);
  Evaluator evaluator = m.Over(m.run);
  Variation v = m.plain();
  v.narrow.outputs = coarse;
  EXPECT_EQ(evaluator.Evaluate(v, m.Index("moe_router_indices"))->values, m.run.Values("layer-0/moe_router_indices"));
  v.narrow.outputs.reset();
  v.narrow.inputs = coarse;
  HeldRun rounded(m.run);
  for (const char* name : {"layer-0/ffn_norm", "layer-0/moe_router"}) {
    for (double& x : rounded.Values(name)) x = RoundTo(coarse, x);
  }
  EXPECT_LT(Apart(evaluator.Evaluate(v, m.Index("moe_ffn_out"))->values, m.Over(rounded).Evaluate(m.plain(), m.Index("moe_ffn_out"))->values), 1e-12);
}

// Weights of the experts that the run chose, as far as it chose any.
TEST(Evaluate, WeightsAreThoseOfTheRecordedExperts) {
  for (const std::string name : {"olmoe", "mixtral", "gpt-oss", "deepseek-v3", "qwen3-moe-mlp-only"}) {
    RecordedModel m(name);
    int layer = 0;
    while (m.Index("moe_router", layer) < 0) ++layer;
    const std::string path = "layer-" + std::to_string(layer) + "/moe_router";
    const auto& a = m.NodeOf(MoeRouteOp(), layer).As<MoeRouteAttributes>();
    const int index = m.Index("moe_router", layer);
    HeldRun other(m.run);
    std::vector<double>& indices = other.Values(path + "_indices");
    for (double& e : indices) e = std::fmod(e + 1, static_cast<double>(a.experts));
    Evaluator evaluator = m.Over(other);
    const auto got = evaluator.Evaluate(m.plain(), index);
    EXPECT_LT(Apart(got->values, RouteWeights(a, m.run.Values(path + "_logits"), indices, std::ssize(m.ids))), 1e-12);
    EXPECT_GT(Apart(got->values, m.run.Values(path)), 1e-3) << name;
    for (const double wrong : {-1.0, static_cast<double>(a.experts), std::nan("")}) {
      const double kept = std::exchange(indices[5], wrong);
      EXPECT_LT(Apart(evaluator.Evaluate(m.plain(), index)->values, m.run.Values(path)), 1e-9) << name << " " << wrong;
      indices[5] = kept;
    }
    indices.pop_back();
    EXPECT_LT(Apart(evaluator.Evaluate(m.plain(), index)->values, m.run.Values(path)), 1e-9);
  }
}

// A sequence that begins at position 3, by variation: the later part of a longer one.
TEST(Evaluate, ShiftedPositions) {
  for (const std::string name : {"llama", "gemma3", "stablelm-parallel", "deepseek-v3", "gpt2-inverse-layer"}) {
    constexpr size_t kShift = 3;
    RecordedModel m(name, 24), late(name, 24);
    const bool learned = m.Index("embedding") >= 0 && m.side.slots.slots.contains({Slot::kPositionEmbedding});
    late.ids.erase(late.ids.begin(), late.ids.begin() + kShift);
    late.run = HeldRun(*late.RunOf(*late.model));
    const auto tail = [&](const std::string& path) {
      const std::vector<double>& all = m.run.Values(path);
      const auto width = static_cast<int64_t>(all.size() / m.ids.size());
      return std::vector<double>(all.begin() + static_cast<int64_t>(kShift) * width, all.end());
    };
    HeldRun given(late.run);
    for (const char* stage : {"qkv_matmul", "qkv_bias", "attn_norm", "q_norm", "k_norm"}) {
      if (given.Has("layer-0/" + std::string(stage))) given.Values("layer-0/" + std::string(stage)) = tail("layer-0/" + std::string(stage));
    }
    Evaluator evaluator = late.Over(given);
    Variation v = late.plain();
    (learned ? v.embedding_shift : v.rope_shift) = kShift;
    for (const char* stage : learned ? std::vector<const char*>{"embedding"} : std::vector<const char*>{"q_post_rope", "k_post_rope"}) {
      const int index = late.Index(stage);
      EXPECT_LT(Apart(evaluator.Evaluate(v, index)->values, tail("layer-0/" + std::string(stage))), 1e-9) << name << " " << stage;
      EXPECT_GT(Apart(evaluator.Evaluate(late.plain(), index)->values, tail("layer-0/" + std::string(stage))), 1e-4) << name << " " << stage;
      std::swap(v.embedding_shift, v.rope_shift);
      EXPECT_EQ(evaluator.Evaluate(v, index)->values, evaluator.Evaluate(late.plain(), index)->values) << name << " " << stage;
      std::swap(v.embedding_shift, v.rope_shift);
    }
  }
}

// Keys and values of one layer replaced.
TEST(Evaluate, ReplacedKeysAndValuesAreOfTheirLayer) {
  RecordedModel m("llama");
  Evaluator evaluator = m.Over(m.run);
  const auto zeros = std::make_shared<std::vector<double>>(m.run.Values("layer-1/k_post_rope").size());
  const std::map<std::string, bool> stages = {{"attn_scores", true}, {"attention", false}};
  for (const auto& [stage, keys] : stages) {
    for (const int layer : {0, 1}) {
      Variation v = m.plain();
      v.attention.replaced_layer = 1;
      (keys ? v.attention.keys : v.attention.values) = zeros;
      const auto got = evaluator.Evaluate(v, m.Index(stage, layer));
      EXPECT_EQ(Rms(got->values) == 0, layer == 1) << stage;
      Variation none = m.plain();
      none.attention.replaced_layer = layer;
      EXPECT_EQ(evaluator.Evaluate(none, m.Index(stage, layer))->values, evaluator.Evaluate(m.plain(), m.Index(stage, layer))->values);
    }
  }
}

}  // namespace
}  // namespace apr::bisect
