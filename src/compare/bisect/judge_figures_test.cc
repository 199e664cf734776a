// The figures of a judgement against their definitions in docs/numerics.md, "The floor of a stage".
#include <gtest/gtest.h>

#include "compare/bisect/judge.h"
#include "compare/bisect/recorded_model.h"
#include "op/moe/moe_route.h"

namespace apr::bisect {
namespace {

// Of element `at`: roundings of the result, and of its row's root mean square what the arithmetic inside amounts to.
double SigmaOf(const Evaluated& e, const RunFormats& formats, int64_t at) {
  double squares = 0;
  for (int64_t i = at / e.width * e.width; i < (at / e.width + 1) * e.width; ++i) squares += std::pow(e.values[static_cast<size_t>(i)], 2);
  const double own = 0.5 * std::max({formats.activations.unit, e.unit, 0x1p-24}) * std::sqrt(e.roundings) * std::abs(e.values[static_cast<size_t>(at)]);
  const double inside = std::sqrt(squares / static_cast<double>(e.width)) * e.input_error * 0.577;
  return std::sqrt(own * own + inside * inside) + e.slack;
}

// So many standard deviations in one element, a row, everywhere: over 12, 5 and 3.
TEST(JudgeFigures, TheRatioCountsStandardDeviations) {
  for (const RunFormats& formats : {Units(0x1p-12, 0x1p-12), Units(0x1p-8, 0x1p-24), Units(0x1p-53, 0x1p-53)}) {
    for (const char* stage : {"attn_norm", "qkv_matmul", "ffn_silu", "post_ffn_residual"}) {
      RecordedModel m("llama");
      const int index = m.Index(stage, 1);
      const auto e = m.Over(m.run, formats).Evaluate(m.plain(), index);
      const int64_t count = e->rows * e->width, row = 4 * e->width;
      const std::vector<std::tuple<int64_t, int64_t, double, double>> cases = {
          {row + 3, row + 4, 6, 0.5}, {0, 1, 3, 0.25}, {row, row + e->width, 4, 0.8}, {0, count, 1.5, 0.5}};
      for (const auto& [first, end, deviations, ratio] : cases) {
        HeldRun run(m.run);
        std::vector<double>& values = run.Values("layer-1/" + std::string(stage));
        values = e->values;
        double squares = 0, total = 0;
        for (int64_t i = first; i < end; ++i) {
          const double off = deviations * SigmaOf(*e, formats, i);
          values[static_cast<size_t>(i)] += off;
          squares += off * off;
        }
        for (const double v : e->values) total += v * v;
        Evaluator evaluator = m.Over(run, formats);
        const Judged judged = Judge(evaluator, m.plain(), index);
        EXPECT_NEAR(judged.ratio, ratio, 1e-6) << stage << " " << first << " " << end;
        EXPECT_FALSE(judged.fails());
        EXPECT_NEAR(judged.error, std::sqrt(squares / total), 1e-6 * judged.error);
        EXPECT_NEAR(judged.floor, judged.error / ratio, 1e-5 * judged.floor);
      }
    }
  }
}

// The first element belongs to its row as the others do: here it is the only one that is not zero.
TEST(JudgeFigures, EveryElementOfARowCounts) {
  RecordedModel m("llama");
  const RunFormats formats = Units(0x1p-12, 0x1p-12);
  for (const int64_t row : {0, 31}) {
    auto tensor = std::make_shared<Tensor>(DType::kF64, Shape{32, 32});
    for (int64_t i = 0; i < 32; ++i) tensor->f64()[static_cast<size_t>(row * 32 + i)] = 1 + static_cast<double>(i) / 10;
    const Variation v{.model = WithWeights(*m.model, {{{Slot::kUp, 1}, WeightRef{.view = tensor->view(), .owned = tensor}}})};
    const int index = m.Index("ffn_up", 1);
    const auto e = m.Over(m.run, formats).Evaluate(v, index);
    HeldRun run(m.run);
    run.Values("layer-1/ffn_up") = e->values;
    run.Values("layer-1/ffn_up")[5] += 6 * SigmaOf(*e, formats, 5);
    Evaluator evaluator = m.Over(run, formats);
    EXPECT_NEAR(Judge(evaluator, v, index).ratio, 0.5, 1e-6);
  }
}

// The error of a choice: how much the score of the worst expert taken is below that of the best one left, over the
// largest scores; scores are sigmoids and their corrections where the router says so.
TEST(JudgeFigures, TheErrorOfAChoiceIsOneOfScores) {
  for (const std::string name : {"deepseek-v3", "olmoe", "gpt-oss"}) {
    RecordedModel m(name);
    const int layer = 1, index = m.Index("moe_router_indices", layer);
    const auto& a = m.NodeOf(MoeRouteOp(), layer).As<MoeRouteAttributes>();
    const std::vector<double>& logits = m.run.Values("layer-1/moe_router_logits");
    const auto correction = m.side.slots.slots.find({Slot::kRouterCorrection, layer});
    std::vector<double> scores = logits;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (a.scoring == "sigmoid") scores[i] = 1 / (1 + std::exp(-scores[i]));
      if (correction != m.side.slots.slots.end()) scores[i] += ReadWeightF64(correction->second.weight)[i % static_cast<size_t>(a.experts)];
    }
    ASSERT_EQ(correction != m.side.slots.slots.end(), name == "deepseek-v3");
    constexpr int64_t kAt = 7;
    HeldRun run(m.run);
    const auto row = scores.begin() + kAt * a.experts;
    double& last = run.Values("layer-1/moe_router_indices")[static_cast<size_t>((kAt + 1) * a.top_k - 1)];
    const double worst = static_cast<double>(std::min_element(row, row + a.experts) - row);
    const double gap = row[static_cast<int64_t>(last)] - row[static_cast<int64_t>(worst)];
    ASSERT_GT(gap, 0);
    last = worst;
    double total = 0;
    for (auto at = scores.begin(); at != scores.end(); at += a.experts) {
      total += std::pow(std::max(std::abs(*std::max_element(at, at + a.experts)), std::abs(*std::min_element(at, at + a.experts))), 2);
    }
    Evaluator evaluator = m.Over(run);
    const Judged judged = Judge(evaluator, m.plain(), index);
    EXPECT_TRUE(judged.fails());
    EXPECT_NEAR(judged.error, gap / std::sqrt(total), 1e-9) << name;
    // One more than there are is no expert, though the next token's logits lie there.
    last = static_cast<double>(a.experts);
    EXPECT_TRUE(std::isinf(Judge(evaluator, m.plain(), index).error)) << name;
  }
}

}  // namespace
}  // namespace apr::bisect
