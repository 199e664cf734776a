// What the teacher-forced evaluation says about errors (docs/numerics.md, "The floor of a stage"): the size of the random
// movements, the deviation of products, and what each op is allowed.
#include <gtest/gtest.h>

#include <set>

#include "compare/bisect/attention_pieces.h"
#include "compare/bisect/recorded_model.h"
#include "op/activation/activation.h"
#include "op/attention/attention.h"
#include "op/rope/rope.h"

namespace apr::bisect {
namespace {

constexpr int64_t kTokens = 20;

// Mean over elements and seeds of (moved - plain)^2 over that of the spread's square.
double MovedOverSpread(RecordedModel& m, const RunFormats& formats, int index, const std::vector<double>& spread, uint64_t seeds) {
  Evaluator evaluator = m.Over(m.run, formats);
  const std::vector<double> plain = evaluator.Evaluate(m.plain(), index)->values;
  double moved = 0, expected = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const std::vector<double> values = evaluator.Evaluate(m.plain(), index, seed)->values;
    for (size_t i = 0; i < values.size(); ++i) {
      moved += (values[i] - plain[i]) * (values[i] - plain[i]);
      expected += spread[i] * spread[i];
    }
  }
  return moved / expected;
}

TEST(EvaluateError, TheSpreadOfAProductIsWhatMovedInputsDoToIt) {
  const std::map<std::string, std::set<std::string>> products = {
      {"llama", {"qkv_matmul", "qkv_bias", "attn_out", "ffn_gate", "ffn_up", "ffn_out", "lm_head"}},
      {"qwen2", {"qkv_matmul", "attn_out", "ffn_gate", "ffn_up", "ffn_out", "lm_head"}},
      {"olmoe", {"qkv_matmul", "qkv_bias", "attn_out", "moe_router_logits", "lm_head"}}};
  for (const auto& [name, stages] : products) {
    RecordedModel m(name, kTokens);
    const RunFormats formats = Units(0x1p-12, 0x1p-10);
    Evaluator evaluator = m.Over(m.run, formats);
    for (size_t i = 0; i < m.graph().stages.size(); ++i) {
      const Stage& stage = m.graph().stages[i];
      const auto spread = evaluator.Spread(m.plain(), static_cast<int>(i));
      ASSERT_EQ(spread.has_value(), stages.contains(stage.name)) << name << " " << stage.Path();
      if (!spread || stage.name == "qkv_bias" || stage.layer > 0) continue;
      ASSERT_EQ(spread->size(), m.run.Values(stage.Path()).size());
      EXPECT_NEAR(MovedOverSpread(m, formats, static_cast<int>(i), *spread, 60), 1, 0.06) << name << " " << stage.Path();
    }
  }
}

// A bias belongs to the product before it where that was not recorded, and the size of the error to the product.
TEST(EvaluateError, TheSpreadOfAProductWithItsBias) {
  RecordedModel m("qwen2", kTokens);
  const RunFormats formats = Units(0x1p-12, 0x1p-10);
  Evaluator whole = m.Over(m.run, formats);
  HeldRun without(m.run, [](const std::string& n) { return !n.ends_with("/qkv_matmul"); });
  Evaluator evaluator = m.Over(without, formats);
  EXPECT_EQ(evaluator.Spread(m.plain(), m.Index("qkv_bias")), whole.Spread(m.plain(), m.Index("qkv_matmul")));
  HeldRun nothing;
  EXPECT_FALSE(m.Over(nothing, formats).Spread(m.plain(), m.Index("qkv_matmul"))) << "no product of recorded values";
}

TEST(EvaluateError, EveryElementSpreads) {
  RecordedModel m("llama", kTokens);
  const std::vector<double> w = ReadWeightF64(m.side.slots.slots.at({Slot::kUp, 0}).weight);
  for (const size_t at : {0, 31}) {
    HeldRun one(m.run);
    std::ranges::fill(one.Values("layer-0/ffn_norm"), 0);
    one.Values("layer-0/ffn_norm")[at] = 4;
    const std::vector<double> spread = *m.Over(one, Units(0x1p-12, 0x1p-10)).Spread(m.plain(), m.Index("ffn_up"));
    for (size_t n = 0; n < 32; ++n) EXPECT_NEAR(spread[n], 4 * std::abs(w[n * 32 + at]) * 0x1p-10 * (1 + std::sqrt(32) / 2) / std::sqrt(3), 1e-12);
  }
}

// Of each of its parts side by side: the columns of keys are those of the keys' weight.
TEST(EvaluateError, TheSpreadOfAStageOfSeveralProducts) {
  RecordedModel m("llama", kTokens);
  Evaluator evaluator = m.Over(m.run, Units(0x1p-12, 0x1p-10));
  const std::vector<double> whole = *evaluator.Spread(m.plain(), m.Index("qkv_matmul"));
  WeightRef weight = m.side.slots.slots.at({Slot::kK, 0}).weight;
  auto zeros = std::make_shared<Tensor>(DType::kF64, weight.view.shape);
  weight = {.view = zeros->view(), .owned = zeros};
  const std::vector<double> changed = *evaluator.Spread({.model = WithWeights(*m.model, {{{Slot::kK, 0}, weight}})}, m.Index("qkv_matmul"));
  const size_t q = 48, k = 24, width = 96;
  ASSERT_EQ(whole.size(), width * kTokens);
  for (size_t i = 0; i < whole.size(); ++i) {
    const size_t column = i % width;
    EXPECT_EQ(changed[i], column >= q && column < q + k ? 0 : whole[i]) << i;
  }
}

// int8: a twelfth of the squared step of each block, and as it is rounded in the moved evaluation itself.
TEST(EvaluateError, ProductsOfInt8Blocks) {
  RecordedModel m("llama", 40);
  RunFormats formats = Units(0x1p-40, 0x1p-40);
  formats.int8_activations = true;
  formats.int8_block = 8;
  m.run.Values("layer-0/ffn_norm")[3] = 30;
  for (size_t i = 8; i < 16; ++i) m.run.Values("layer-0/ffn_norm")[i] /= 100;
  std::fill_n(m.run.Values("layer-0/ffn_norm").begin() + 40, 8, 0.0);
  EXPECT_LT(Rms(*m.Over(m.run, formats).Spread(m.plain(), m.Index("ffn_up"))), 1e-9) << "weights of f32 are multiplied in f32";
  for (const char* declared : {"Q8_0", "Q4_K", "F16", "nothing"}) {
    formats.weights = declared;
    const bool quantized = declared[0] == 'Q';
    Evaluator evaluator = m.Over(m.run, formats);
    const std::vector<double> spread = *evaluator.Spread(m.plain(), m.Index("ffn_up"));
    const std::vector<double> plain = evaluator.Evaluate(m.plain(), m.Index("ffn_up"))->values;
    const std::vector<double> moved = evaluator.Evaluate(m.plain(), m.Index("ffn_up"), 1)->values;
    Variation rounded = m.plain();
    rounded.narrow.int8_block = 8;
    EXPECT_LT(Apart(moved, quantized ? evaluator.Evaluate(rounded, m.Index("ffn_up"))->values : plain), 1e-9) << declared;
    if (!quantized) continue;
    EXPECT_NEAR(MovedOverSpread(m, formats, m.Index("ffn_up"), spread, 1), 1, 0.25);
    // Row 0: one element of 30 in a block of eight, three blocks without it.
    const std::vector<double>& x = m.run.Values("layer-0/ffn_norm");
    const std::vector<double> w = ReadWeightF64(m.side.slots.slots.at({Slot::kUp, 0}).weight);
    for (size_t n = 0; n < 32; ++n) {
      double variance = 0;
      for (size_t i = 0; i < 32; ++i) {
        double largest = 0;
        for (size_t j = i / 8 * 8; j < i / 8 * 8 + 8; ++j) largest = std::max(largest, std::abs(x[j]));
        variance += w[n * 32 + i] * w[n * 32 + i] * largest * largest / 127 / 127 / 12;
      }
      ASSERT_NEAR(spread[n], std::sqrt(variance), 1e-9 * std::sqrt(variance));
    }
  }
}

// A weight that is quantised in the file is multiplied in int8 whatever the run declares.
TEST(EvaluateError, AQuantizedWeightTakesInt8) {
  RecordedModel m("llama", kTokens);
  auto tensor = std::make_shared<Tensor>(DType::kQ8_0, Shape{32, 32});
  std::byte* bytes = tensor->mutable_bytes().data();
  for (size_t block = 0; block < 32; ++block) {
    bytes[block * 34 + 1] = std::byte{0x3C};  // a scale of 1
    for (size_t i = 0; i < 32; ++i) bytes[block * 34 + 2 + i] = std::byte{1};
  }
  const WeightRef weight{.view = tensor->view(), .owned = tensor};
  RunFormats formats = Units(0x1p-40, 0x1p-40);
  formats.int8_activations = true;
  const Variation quantized{.model = WithWeights(*m.model, {{{Slot::kUp, 0}, weight}})};
  Evaluator evaluator = m.Over(m.run, formats);
  const std::vector<double>& x = m.run.Values("layer-0/ffn_norm");
  double largest = 0;
  for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[i]));
  const double expected = largest / 127 * std::sqrt(32.0 / 12);
  EXPECT_NEAR((*evaluator.Spread(quantized, m.Index("ffn_up")))[0], expected, 1e-6 * expected);
  EXPECT_LT((*evaluator.Spread(quantized, m.Index("ffn_gate")))[0], 1e-9);
}

// Such engines round what goes into experts' products too, but neither the experts' weights nor their numbers; and
// cache keys and values as f16.
TEST(EvaluateError, Int8OfExpertsAndF16OfCaches) {
  RecordedModel m("olmoe", kTokens);
  RunFormats formats = Units(0x1p-40, 0x1p-40);
  formats.int8_activations = true;
  formats.weights = "Q8_0";
  formats.int8_block = 8;
  Evaluator evaluator = m.Over(m.run, formats);
  HeldRun rounded(m.run);
  std::vector<double>& x = rounded.Values("layer-0/ffn_norm");
  for (size_t block = 0; block < x.size(); block += 8) {
    double largest = 0;
    for (size_t i = block; i < block + 8; ++i) largest = std::max(largest, std::abs(x[i]));
    for (size_t i = block; i < block + 8; ++i) x[i] = std::round(x[i] * 127 / largest) * largest / 127;
  }
  const int experts = m.Index("moe_ffn_out");
  const std::vector<double> expected = m.Over(rounded).Evaluate(m.plain(), experts)->values;
  EXPECT_GT(Apart(expected, m.run.Values("layer-0/moe_ffn_out")), 1e-3);
  EXPECT_LT(Apart(evaluator.Evaluate(m.plain(), experts, 1)->values, expected), 1e-9);
  EXPECT_EQ(evaluator.Evaluate(m.plain(), m.Index("moe_router_indices"), 1)->values, m.run.Values("layer-0/moe_router_indices"));
  // A norm reads what it reads.
  EXPECT_LT(Apart(evaluator.Evaluate(m.plain(), m.Index("ffn_norm"), 1)->values, m.run.Values("layer-0/ffn_norm")), 1e-6);
  // sum over keys of p v (1 + 2^-11 u), u uniform in [-1, 1].
  const auto& a = m.NodeOf(AttentionOp()).As<AttentionAttributes>();
  std::vector<double> weights = m.run.Values("layer-0/attn_softmax"), values = *evaluator.ValueBefore(m.plain(), m.NodeOf(AttentionOp()).inputs[2], m.Index("attention"));
  for (double& p : weights) p *= p;
  for (double& v : values) v *= v;
  std::vector<double> spread = AttentionOutput(a, {}, weights, values, kTokens, m.pool);
  for (double& s : spread) s = std::sqrt(s / 3) * 0x1p-11;
  EXPECT_NEAR(MovedOverSpread(m, formats, m.Index("attention"), spread, 40), 1, 0.06);
  formats.int8_activations = false;
  EXPECT_LT(Apart(m.Over(m.run, formats).Evaluate(m.plain(), m.Index("attention"), 1)->values, m.run.Values("layer-0/attention")), 1e-9);
}

// Scores and the weights made of them are moved by the error of the step that reads them.
TEST(EvaluateError, StepsOfAttentionAreMoved) {
  RecordedModel m("llama", kTokens);
  const double u = 0x1p-10;
  Evaluator evaluator = m.Over(m.run, Units(u, u));
  for (const char* stage : {"attn_scores", "attn_softmax", "attention"}) {
    const int index = m.Index(stage, 1);
    const std::vector<double> plain = evaluator.Evaluate(m.plain(), index)->values;
    const auto moved = evaluator.Evaluate(m.plain(), index, 7);
    const double apart = Apart(moved->values, plain);
    EXPECT_GT(apart, u / 8) << stage;
    EXPECT_LT(apart, 60 * u) << stage;
    EXPECT_EQ(evaluator.Evaluate(m.plain(), index, 7)->values, moved->values) << "a seed is a movement";
    EXPECT_NE(evaluator.Evaluate(m.plain(), index, 8)->values, moved->values);
  }
  // The first key has all the weight of the first query, whatever moves: only the values move the result.
  const std::vector<double> first = evaluator.Evaluate(m.plain(), m.Index("attn_softmax", 1), 3)->values;
  EXPECT_EQ(first[0], 1);
}

struct Allowed {
  const char* model;
  const char* stage;
  int layer;
  int roundings;
  std::function<double(double a, double c)> input_error;  // of the units of activations and of sums
};

double Sum(double c, double n) { return c * (1 + std::sqrt(n) / 2); }
double Single(double c) { return 4 * std::max(c, 0x1p-24); }

std::vector<Allowed> AllowedErrors() {
  const auto sum_of = [](double n) { return [n](double, double c) { return Sum(c, n); }; };
  const auto single = [](double, double c) { return Single(c); };
  const auto one = [](double, double c) { return c; };
  const auto activation = [](double a, double) { return a; };
  const auto rotation = [](double a, double c) { return std::max(a, c); };  // its table is computed for it
  const auto none = [](double, double) { return 0.0; };
  const auto scores = [](double a, double c) { return Sum(c, 12) + a; };
  return {
      {"llama", "embedding", 0, 1, one},
      {"gemma2", "lm_head", -1, 4, sum_of(24)},
      {"gemma2", "embedding", 0, 2, one},
      {"llama", "attn_norm", 1, 2, single},
      {"llama", "qkv_matmul", 1, 1, sum_of(32)},
      {"llama", "attn_out", 1, 1, sum_of(48)},
      {"qwen2", "qkv_bias", 1, 1, one},
      {"llama", "q_post_rope", 1, 2, rotation},
      {"llama", "attn_scores", 1, 2, scores},
      {"gemma2", "attn_scores", 1, 4, [](double a, double c) { return Sum(c, 8) + a; }},
      {"llama", "attn_softmax", 1, 1, single},
      {"llama", "attention", 1, 1, [](double a, double c) { return Sum(c, kTokens) + a / 2; }},
      {"llama", "post_attn_residual", 1, 1, none},
      {"granite", "post_attn_residual", 1, 2, activation},
      {"llama", "ffn_silu", 1, 2, one},
      {"llama", "ffn_swigl", 1, 1, one},
      {"olmoe", "moe_router", 1, 3, single},
      {"olmoe", "moe_ffn_out", 1, 3, [](double a, double c) { return 2 * a + Sum(c, 24); }},
      {"mixtral", "moe_router", 1, 3, single},
  };
}

TEST(EvaluateError, WhatEachOpIsAllowed) {
  for (const Allowed& w : AllowedErrors()) {
    RecordedModel m(w.model, kTokens);
    for (const auto& [a, c] : std::vector<std::pair<double, double>>{{0x1p-8, 0x1p-24}, {0x1p-10, 0x1p-10}, {0x1p-10, 0x1p-5}, {0x1p-30, 0x1p-30}, {0x1p-12, 0x1p-13}}) {
      const auto got = m.Over(m.run, Units(a, c)).Evaluate(m.plain(), m.Index(w.stage, w.layer));
      ASSERT_TRUE(got) << w.model << " " << w.stage;
      const double expected = c < a ? std::max(a, w.input_error(a, c)) : w.input_error(a, c);
      EXPECT_NEAR(got->input_error, expected, 1e-12 * expected) << w.model << " " << w.stage << " " << a << " " << c;
      EXPECT_EQ(got->roundings, w.roundings) << w.model << " " << w.stage;
      EXPECT_EQ(got->unit, a) << w.model << " " << w.stage;
    }
  }
}

TEST(EvaluateError, WeightsOfAnotherTypeAndWiderExperts) {
  RecordedModel llama("llama", kTokens), olmoe("olmoe", kTokens);
  RunFormats formats = Units(0x1p-20, 0x1p-20);
  formats.weight_error = 0.01;
  EXPECT_NEAR(llama.Over(llama.run, formats).Evaluate(llama.plain(), llama.Index("ffn_up"))->input_error, 0.018 + Sum(0x1p-20, 32), 1e-12);
  EXPECT_NEAR(olmoe.Over(olmoe.run, formats).Evaluate(olmoe.plain(), olmoe.Index("moe_ffn_out"))->input_error,
              0.025 + 0x1p-19 + Sum(0x1p-20, 24), 1e-12);
  EXPECT_EQ(llama.Over(llama.run, formats).Evaluate(llama.plain(), llama.Index("attn_norm"))->input_error, 0x1p-18);
}

// GELU from a table of f16 with int8 products; a multiplication by what came from it is as exact as its factor.
TEST(EvaluateError, GeluOfATable) {
  for (const char* name : {"gemma2", "llama"}) {
    RecordedModel m(name, kTokens);
    const bool gelu = std::string(name) == "gemma2";
    HeldRun without(m.run, [](const std::string& n) { return !n.ends_with("/ffn_silu"); });
    for (const bool int8 : {true, false}) {
      for (const double a : {0x1p-24, 0x1p-8}) {
        RunFormats formats = Units(a, 0x1p-24);
        formats.int8_activations = int8;
        const double unit = int8 && gelu ? std::max(0x1p-11, a) : a;
        const auto active = m.Over(m.run, formats).Evaluate(m.plain(), m.Index("ffn_silu", 1));
        EXPECT_EQ(active->unit, unit);
        EXPECT_EQ(active->input_error, std::max(int8 && gelu ? 0x1p-11 : 0x1p-24, a > 0x1p-24 ? a : 0));
        const double rms = Rms(m.run.Values("layer-1/ffn_gate"));
        EXPECT_NEAR(active->slack, 0.2 * unit * rms, 1e-12 * rms);
        const auto product = m.Over(m.run, formats).Evaluate(m.plain(), m.Index("ffn_swigl", 1));
        EXPECT_EQ(product->unit, a);
        EXPECT_EQ(product->roundings, 1);
        EXPECT_EQ(product->slack, 0);
        const auto both = m.Over(without, formats).Evaluate(m.plain(), m.Index("ffn_swigl", 1));
        EXPECT_EQ(both->unit, unit);
        EXPECT_EQ(both->roundings, int8 && gelu ? 2 : 1);
      }
    }
  }
}

// Every kind of GELU has a table, and the exact one another error besides.
TEST(EvaluateError, KindsOfGelu) {
  for (const std::string& name : SmallModels()) {
    RecordedModel m(name, 6);
    const int index = m.Index("ffn_silu", 0);
    if (index < 0) continue;
    const auto node = std::ranges::find_if(m.graph().nodes, [&](const Node& n) { return n.name == "layer-0/ffn_act"; });
    const std::string kind = node->As<ActivationAttributes>().kind;
    const ValueId input = node->inputs[0];
    RunFormats formats = Units(0x1p-24, 0x1p-24);
    formats.int8_activations = true;
    Evaluator evaluator = m.Over(m.run, formats);
    const double rms = Rms(*evaluator.ValueBefore(m.plain(), input, index));
    const auto got = evaluator.Evaluate(m.plain(), index);
    const bool gelu = kind.find("gelu") != std::string::npos;
    EXPECT_EQ(got->unit, gelu ? 0x1p-11 : 0x1p-24) << name << " " << kind;
    EXPECT_NEAR(got->slack, (0.2 * got->unit + (kind == "gelu" ? 0.375e-7 : 0)) * rms, 1e-12 * rms) << name << " " << kind;
  }
}

// Angles are off by at most (4 + i / 2) units in the last place of f32, pair by pair, at no position the same.
TEST(EvaluateError, AnglesAreMovedByTheUnitOfF32) {
  RecordedModel m("llama", kTokens);
  constexpr size_t kHeadDim = 12, kHalf = 6, kHeads = 4;
  const auto& table = m.NodeOf(RopeTableOp(), -1).As<RopeTableAttributes>();
  const std::vector<double> frequency = InverseFrequencies(table, kTokens);
  ASSERT_EQ(frequency.size(), kHalf);
  Evaluator evaluator = m.Over(m.run, Units(0x1p-60, 0x1p-60));
  const std::vector<double>& plain = m.run.Values("layer-1/q_post_rope");
  for (const int64_t shift : {0, 5}) {
    std::vector<double> reached(kHalf);
    bool first_moved = false;
    Variation v = m.plain();
    v.rope_shift = shift;
    const std::vector<double> still = evaluator.Evaluate(v, m.Index("q_post_rope", 1))->values;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      const std::vector<double> moved = evaluator.Evaluate(v, m.Index("q_post_rope", 1), seed)->values;
      for (size_t t = 0; t < kTokens; ++t) {
        for (size_t item = 0; item < kHeads * kHalf; ++item) {
          const size_t i = item % kHalf, at = t * kHeads * kHeadDim + item / kHalf * kHeadDim + i;
          const double cross = still[at] * moved[at + kHalf] - still[at + kHalf] * moved[at];
          const double squares = still[at] * still[at] + still[at + kHalf] * still[at + kHalf];
          const double bound = (4 + 0.5 * static_cast<double>(i)) * 0x1p-24 * (static_cast<double>(t) + static_cast<double>(shift)) * frequency[i];
          const double angle = std::abs(cross / squares);
          ASSERT_LE(angle, bound * (1 + 1e-6) + 1e-14) << t << " " << i;
          first_moved |= t == 0 && angle > 1e-12;
          if (bound > 1e-12) reached[i] = std::max(reached[i], angle / bound);
        }
      }
    }
    for (size_t i = 0; i < kHalf; ++i) EXPECT_GT(reached[i], 0.95) << i;
    EXPECT_EQ(first_moved, shift > 0);
  }
  EXPECT_EQ(evaluator.Evaluate(m.plain(), m.Index("q_post_rope", 1))->values.size(), plain.size());
}

// Values on the way that were not recorded are rounded by the run: they are moved by the unit of its activations; the
// stage itself is not, its roundings are counted.
TEST(EvaluateError, WhatIsComputedOnTheWayIsMoved) {
  RecordedModel m("llama", kTokens);
  HeldRun without(m.run, [](const std::string& n) { return !n.ends_with("/ffn_silu"); });
  const double a = 0x1p-9;
  Evaluator all = m.Over(m.run, Units(a, 0x1p-50)), some = m.Over(without, Units(a, 0x1p-50));
  const int index = m.Index("ffn_swigl", 1);
  const std::vector<double>& plain = m.run.Values("layer-1/ffn_swigl");
  double one = 0, two = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const auto far = [&](Evaluator& e) {
      std::vector<double> moved = e.Evaluate(m.plain(), index, seed)->values;
      for (size_t i = 0; i < moved.size(); ++i) moved[i] = plain[i] == 0 ? 0 : moved[i] / plain[i] - 1;
      return std::pow(Rms(moved), 2);
    };
    one += far(all) / 40;
    two += far(some) / 40;
  }
  const double uniform = a * a / 3;  // the variance of one movement
  EXPECT_NEAR(one / uniform, 2, 0.1) << "both factors";
  EXPECT_GT(two / uniform, 2.9) << "and what the activation made and read";
  EXPECT_LT(two / uniform, 8);
}

}  // namespace
}  // namespace apr::bisect
