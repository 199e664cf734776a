// What the judge sees in a recorded run: scores, coordinates and choices of experts, each with a small change in one stage.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "compare/bisect/bisection.h"
#include "compare/bisect/edited_run.h"
#include "compare/bisect/walk.h"
#include "generate/trace.h"

namespace apr::bisect {
namespace {

constexpr int64_t kTokens = 24;

std::string ModelPath(const std::string& name) { return APR_SOURCE_DIR "/testdata/model/" + name; }

// A sound run of `model` walked after such a change.
Report Walked(const std::string& model, const EditedRun::Edit& edit, const char* activations = "f32") {
  const Side side = OpenSide(ModelPath(model));
  const auto right = BindWalkModel(side.config, *side.architecture, side.slots, side.file);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kTokens; ++i) ids.push_back(static_cast<int32_t>((i * 37 + 11) % side.config.vocab_size));
  const auto run = RecordRun(ExecutorKind::kCpu, {right, &right->bound}, ids, {.threads = 1, .precision = Precision::kExact});
  EditedRun edited(*run, edit);
  StageManifest manifest;
  manifest.precision = {.weights = "", .activations = activations, .accumulate = "f32"};
  Bisection b;
  ThreadPool pool(1);
  b.pool = &pool;
  b.options.causes = false;
  Evaluator evaluator(edited, ids, FormatsOf(manifest), pool);
  Walk(b, evaluator, side.slots, right).Run();
  return std::move(b.report);
}

// Its findings by stage.
std::map<std::string, Finding> Edited(const std::string& model, const EditedRun::Edit& edit, const char* activations = "f32") {
  std::map<std::string, Finding> out;
  for (const Finding& f : Walked(model, edit, activations).findings) out.emplace(f.first.stage, f);
  return out;
}

TEST(Judge, ScoresOfKeysThatNobodySeesAreNotCompared) {
  for (const std::string model : {"llama", "mistral"}) {
    const auto window = static_cast<size_t>(OpenSide(ModelPath(model)).config.layers[0].window);
    ASSERT_EQ(window > 0, model == "mistral");
    const auto found = Edited(model, [&](const std::string& name, std::vector<double>& values) {
      if (!name.ends_with("/attn_scores")) return;
      for (size_t i = 0; i < values.size(); ++i) {
        const size_t key = i % kTokens, query = i / kTokens % kTokens;
        if (key > query || (window > 0 && key + window <= query)) values[i] = -1e30;
      }
    });
    EXPECT_TRUE(found.empty()) << model << " " << found.begin()->first;
  }
}

// Of what a query sees the first key and itself are compared too, and the coordinate is head, query, key.
TEST(Judge, AWrongScoreIsFoundAtEitherEndOfWhatAQuerySees) {
  constexpr int64_t kHead = 1, kQuery = 20;
  for (const std::string model : {"llama", "mistral"}) {
    const ModelConfig config = OpenSide(ModelPath(model)).config;
    const int64_t window = config.layers[0].window, first = window > 0 ? kQuery - window + 1 : 0;
    ASSERT_EQ(model == "mistral", first > 0);
    for (const char* stage : {"attn_scores", "attn_softmax"}) {
      for (const int64_t key : {first, kQuery, first - 1}) {
        if (key < 0) continue;
        const bool seen = key >= first || std::string(stage) == "attn_softmax";  // a weight that is not 0 is wrong anywhere
        const auto found = Edited(model, [&](const std::string& name, std::vector<double>& values) {
          if (name == "layer-0/" + std::string(stage)) values[static_cast<size_t>((kHead * kTokens + kQuery) * kTokens + key)] += 0.5;
        });
        ASSERT_EQ(found.contains(stage), seen) << model << " " << stage << " " << key;
        if (!seen) continue;
        EXPECT_EQ(found.at(stage).first.coordinate, (std::vector<int64_t>{kHead, kQuery, key})) << model << " " << stage;
        EXPECT_EQ(found.at(stage).first.position, kQuery);
      }
    }
  }
}

TEST(Judge, TheFirstElementOfAStageHasItsCoordinate) {
  const auto found = Edited("llama", [](const std::string& name, std::vector<double>& values) {
    if (name == "layer-1/ffn_up") values[0] += 3;
  });
  ASSERT_TRUE(found.contains("ffn_up"));
  EXPECT_EQ(found.at("ffn_up").first.coordinate, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(found.at("ffn_up").first.position, 0);
}

TEST(Judge, AFaultOfEveryLayerSaysInHowManyLayers) {
  const int64_t layers = OpenSide(ModelPath("llama")).config.num_layers;
  ASSERT_GT(layers, 1);
  const auto found = Edited("llama", [](const std::string& name, std::vector<double>& values) {
    if (name.ends_with("/ffn_up")) values[5] += 3;
  });
  ASSERT_TRUE(found.contains("ffn_up"));
  EXPECT_EQ(found.at("ffn_up").first.layer, 0);
  EXPECT_TRUE(found.at("ffn_up").trials.empty()) << "no causes were asked for";
  EXPECT_NE(found.at("ffn_up").first.note.find("in " + std::to_string(layers) + " layers"), std::string::npos) << found.at("ffn_up").first.note;
}

// The expert with the lowest logit instead of the last one chosen, at one position.
EditedRun::Edit WorstExpertAt(const std::string& layer, int64_t position, double scale, int64_t experts, int64_t top_k) {
  auto logits = std::make_shared<std::vector<double>>();
  return [=](const std::string& name, std::vector<double>& values) {
    if (name == layer + "/moe_router_logits") {
      for (double& v : values) v *= scale;
      *logits = values;
    }
    if (name != layer + "/moe_router_indices") return;
    const auto row = logits->begin() + position * experts;
    values[static_cast<size_t>((position + 1) * top_k - 1)] = static_cast<double>(std::min_element(row, row + experts) - row);
  };
}

TEST(Judge, AWrongExpertIsFoundAtAnyPositionAndWithSmallLogits) {
  const ModelConfig config = OpenSide(ModelPath("olmoe")).config;
  for (const int64_t position : {0, 7}) {
    const auto found = Edited("olmoe", WorstExpertAt("layer-0", position, 1, config.moe.experts, config.moe.top_k));
    ASSERT_TRUE(found.contains("moe_router_indices")) << position;
    EXPECT_EQ(found.at("moe_router_indices").first.position, position);
  }
  // The error is how much worse the chosen one is than the one left out, over the largest logits.
  std::vector<double> logits;
  const auto wrong = WorstExpertAt("layer-0", 7, 1, config.moe.experts, config.moe.top_k);
  const auto measured = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
    wrong(name, values);
    if (name == "layer-0/moe_router_logits") logits = values;
  });
  double total = 0, gap = 0;
  for (size_t row = 0; row < logits.size(); row += static_cast<size_t>(config.moe.experts)) {
    std::vector<double> one(logits.begin() + static_cast<int64_t>(row), logits.begin() + static_cast<int64_t>(row) + config.moe.experts);
    total += std::pow(std::max(std::ranges::max(one), -std::ranges::min(one)), 2);
    std::ranges::sort(one, std::greater<>());
    if (row == static_cast<size_t>(7 * config.moe.experts)) gap = one[static_cast<size_t>(config.moe.top_k - 1)] - one.back();
  }
  const Place& at = measured.at("moe_router_indices").first;
  EXPECT_NEAR(at.error.value(), gap / std::sqrt(total), 1e-5 * gap);
  EXPECT_EQ(at.coordinate, (std::vector<int64_t>{7, 0}));
  EXPECT_LT(at.floor.value(), 1e-5);
  EXPECT_TRUE(Edited("olmoe", WorstExpertAt("layer-0", 3, 1e-3, config.moe.experts, config.moe.top_k), "bf16").contains("moe_router_indices"));
  const auto fewer = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
    if (name == "layer-0/moe_router_indices") values.resize(values.size() / static_cast<size_t>(config.moe.top_k) * static_cast<size_t>(config.moe.top_k - 1));
  });
  EXPECT_TRUE(fewer.contains("moe_router_indices"));
}

// Of two wrong rows the first is the position, the one that is farther off the coordinate.
TEST(Judge, TheFirstOfTwoWrongChoicesIsThePosition) {
  const ModelConfig config = OpenSide(ModelPath("olmoe")).config;
  const int64_t experts = config.moe.experts, top_k = config.moe.top_k;
  for (const int64_t second : {3, 7, 11}) {
    std::vector<double> logits;
    const auto one = WorstExpertAt("layer-0", 0, 1, experts, top_k), two = WorstExpertAt("layer-0", second, 1, experts, top_k);
    const auto found = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
      one(name, values);
      two(name, values);
      if (name == "layer-0/moe_router_logits") logits = values;
    });
    const auto off = [&](int64_t position) {
      std::vector<double> row(logits.begin() + position * experts, logits.begin() + (position + 1) * experts);
      const double scale = std::max(std::ranges::max(row), -std::ranges::min(row));
      std::ranges::sort(row, std::greater<>());
      return (row[static_cast<size_t>(top_k - 1)] - row.back()) / scale;
    };
    ASSERT_TRUE(found.contains("moe_router_indices"));
    EXPECT_EQ(found.at("moe_router_indices").first.position, 0);
    EXPECT_EQ(found.at("moe_router_indices").first.coordinate, (std::vector<int64_t>{off(0) >= off(second) ? 0 : second, 0}));
  }
}

// Logits of two positions set by hand: the last place among the chosen goes to an expert that is `gap` worse than the one left out.
EditedRun::Edit NearTies(const ModelConfig& config, std::map<int64_t, double> gaps) {
  const int64_t experts = config.moe.experts, top_k = config.moe.top_k;
  return [=](const std::string& name, std::vector<double>& values) {
    for (const auto& [position, gap] : gaps) {
      for (int64_t e = 0; e < experts && name == "layer-0/moe_router_logits"; ++e) {
        values[static_cast<size_t>(position * experts + e)] = e < top_k ? 1 : e == top_k ? 1 - gap : -0.5;
      }
      for (int64_t e = 0; e < top_k && name == "layer-0/moe_router_indices"; ++e) {
        values[static_cast<size_t>(position * top_k + e)] = static_cast<double>(e + 1 < top_k ? e : top_k);
      }
    }
  };
}

// An expert may be taken for one that is better by eight units of the type that the run computes in, and no more.
TEST(Judge, AChoiceBetweenNearTiesIsLeftToTheRun) {
  const ModelConfig config = OpenSide(ModelPath("olmoe")).config;
  ASSERT_GT(config.moe.experts, config.moe.top_k);
  StageManifest manifest;
  manifest.precision = {.weights = "", .activations = "bf16", .accumulate = "f32"};
  const double unit = FormatsOf(manifest).activations.unit;
  const auto choice = [&](std::map<int64_t, double> gaps) {
    for (auto& [position, gap] : gaps) gap *= unit;
    return Walked("olmoe", NearTies(config, gaps), "bf16");
  };
  const auto finding = [](const Report& report) { return std::ranges::find(report.findings, "moe_router_indices", [](const Finding& f) { return f.first.stage; }); };
  const Report right = choice({{7, 7.9}}), wrong = choice({{7, 8.1}});
  EXPECT_EQ(finding(right), right.findings.end());
  ASSERT_NE(finding(wrong), wrong.findings.end());
  EXPECT_EQ(finding(wrong)->first.position, 7);
  const auto score = std::ranges::find(right.scores, "layer-0/moe_router_indices", &StageScore::name);
  ASSERT_NE(score, right.scores.end());
  EXPECT_NEAR(score->error / score->floor, 7.9 / 8, 1e-6);
  const Report sound = choice({});
  EXPECT_DOUBLE_EQ(std::ranges::find(sound.scores, "layer-0/moe_router_indices", &StageScore::name)->floor, unit);
  // The first is the position, the farther off the coordinate.
  const Report two = choice({{3, 20}, {9, 40}});
  ASSERT_NE(finding(two), two.findings.end());
  EXPECT_EQ(finding(two)->first.position, 3);
  EXPECT_EQ(finding(two)->first.coordinate, (std::vector<int64_t>{9, 0}));
}

// What is no number of an expert, or one twice, is no choice.
TEST(Judge, WhatIsNoChoiceOfExpertsIsFound) {
  const ModelConfig config = OpenSide(ModelPath("olmoe")).config;
  ASSERT_GE(config.moe.top_k, 2);
  const auto experts = static_cast<double>(config.moe.experts);
  for (const double wrong : {-1.0, experts, 0.5, static_cast<double>(NAN), -2.0}) {
    const auto found = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
      const auto at = static_cast<size_t>(5 * config.moe.top_k);
      if (name == "layer-0/moe_router_indices") values[at + 1] = wrong == -2 ? values[at] : wrong;
    });
    ASSERT_TRUE(found.contains("moe_router_indices")) << wrong;
    EXPECT_EQ(found.at("moe_router_indices").first.position, 5) << wrong;
  }
  // The same experts in another order are the same choice.
  const auto turned = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
    if (name == "layer-0/moe_router_indices") std::swap(values[0], values[1]);
  });
  EXPECT_FALSE(turned.contains("moe_router_indices"));
}

// Rows of at least eight elements are also judged as a whole: half the allowance of one element in all of them is too much.
TEST(Judge, AWideRowIsJudgedAsAWhole) {
  for (const int64_t width : {7, 8}) {
    const auto count = static_cast<size_t>(width * 20);
    std::vector<double> expected(count, 1.0), recorded(count, 1.0);
    const std::vector<double> sigma(count, 1e-6);
    for (int64_t i = 0; i < width; ++i) recorded[static_cast<size_t>(3 * width + i)] += 6e-6;
    Judged out;
    Score({expected, recorded, sigma, width, {}}, out);
    EXPECT_EQ(out.fails(), width == 8);
    EXPECT_EQ(out.row, width == 8 ? 3 : -1);
  }
}

// What is no number on one side only is a difference, on both none; of elements equally far out the first is shown.
TEST(Judge, NoNumbersAndTiesAreScored) {
  const auto score = [](std::vector<double> expected, std::vector<double> recorded) {
    Judged out;
    const std::vector<double> sigma(expected.size(), 1e-6);
    Score({expected, recorded, sigma, 4, {}}, out);
    return out;
  };
  const std::vector<double> ones(12, 1.0);
  std::vector<double> spoilt = ones;
  spoilt[5] = NAN;
  const Judged recorded = score(ones, spoilt), expected = score(spoilt, ones), both = score(spoilt, spoilt);
  EXPECT_TRUE(recorded.fails() && recorded.nonfinite);
  EXPECT_EQ(recorded.row, 1);
  EXPECT_EQ(recorded.worst, 5);
  EXPECT_TRUE(expected.fails());
  EXPECT_EQ(expected.row, 1);
  EXPECT_FALSE(expected.nonfinite);
  EXPECT_TRUE(both.compared);
  EXPECT_FALSE(both.fails());
  const std::vector<double> none(12, NAN);
  EXPECT_TRUE(score(none, none).no_numbers);
  EXPECT_FALSE(score(none, none).compared);
  std::vector<double> two = ones;
  two[6] = two[9] = 1.5;
  EXPECT_EQ(score(ones, two).worst, 6);
  EXPECT_EQ(score(ones, two).bad_rows, 2);
}

TEST(Judge, ScoresAreTheirFormulas) {
  const auto score = [](std::vector<double> expected, std::vector<double> recorded) {
    Judged out;
    const std::vector<double> sigma(expected.size(), 0.1);
    Score({expected, recorded, sigma, 2, {}}, out);
    return out;
  };
  const Judged near = score({3, 4, 0, 0}, {3, 4, 1, 0});
  EXPECT_DOUBLE_EQ(near.error, 0.2);
  EXPECT_DOUBLE_EQ(near.ratio, 10.0 / 12) << "standard deviations over those of one element";
  EXPECT_DOUBLE_EQ(near.floor, 0.24);
  EXPECT_FALSE(near.fails());
  EXPECT_EQ(near.worst, 2);
  EXPECT_EQ(near.a, 0);
  EXPECT_EQ(near.b, 1);
  const Judged far = score({3, 4, 0, 0}, {3, 4, 3, 0});
  EXPECT_DOUBLE_EQ(far.ratio, 2.5);
  EXPECT_TRUE(far.fails());
  EXPECT_EQ(far.row, 1);
  EXPECT_EQ(far.bad_rows, 1);
  const Judged equal = score({3, 4, 0, 0}, {3, 4, 0, 0});
  EXPECT_EQ(equal.error, 0);
  EXPECT_EQ(equal.ratio, 0);
  EXPECT_DOUBLE_EQ(equal.floor, 3 * std::sqrt(0.04 / 25)) << "of the formats alone";
  // A spoilt row says nothing, and nothing of the rows beside it.
  const Judged beside = score({3, 4, NAN, 1, 5, 6}, {9, 4, INFINITY, 1, 5, 9});
  EXPECT_EQ(beside.row, 0);
  EXPECT_EQ(beside.bad_rows, 2);
  EXPECT_TRUE(std::isinf(score({1, 1}, {1, NAN}).error));
  EXPECT_EQ(score({NAN, 1, 2, 3}, {NAN, 1, 2, 3}).ratio, 0) << "a spoilt row is no reason for anything";
  EXPECT_NEAR(score({3, 4}, {3.05, 4}).error, 0.01, 1e-12) << "of elements within one standard deviation too";
  EXPECT_NEAR(score({0.3, 0.4}, {0.35, 0.4}).error, 0.1, 1e-12);
  EXPECT_DOUBLE_EQ(score({0.3, 0.4}, {0.3, 0.4}).floor, 3 * std::sqrt(0.02 / 0.25));
  EXPECT_DOUBLE_EQ(score({1, 1}, {1, NAN}).floor, 3 * std::sqrt(0.01)) << "of what are numbers";
  EXPECT_TRUE(std::isinf(score({0, 0}, {0.5, 0}).error)) << "nothing to compare it with";
  EXPECT_EQ(score({0, 0}, {0.5, 0}).floor, 0);
  EXPECT_EQ(score({0, 0}, {0, 0}).error, 0);
  EXPECT_EQ(score({0, 0}, {0, 0}).floor, 0);
  EXPECT_FALSE(score({}, {}).no_numbers);
  EXPECT_TRUE(score({NAN, NAN}, {NAN, NAN}).no_numbers);
  Judged skipped;
  const std::vector<double> pair = {1, 2};
  Score({pair, pair, pair, 2, {true, true}}, skipped);
  EXPECT_FALSE(skipped.no_numbers || skipped.compared);
  EXPECT_EQ(skipped.why, "no element is read");
}

TEST(Judge, AStageOfAnotherSizeIsFound) {
  const auto found = Edited("llama", [](const std::string& name, std::vector<double>& values) {
    if (name == "layer-1/ffn_up") values.resize(values.size() / 2);
  });
  ASSERT_TRUE(found.contains("ffn_up"));
  EXPECT_EQ(found.at("ffn_up").first.layer, 1);
  EXPECT_NE(found.at("ffn_up").first.note.find(" values where "), std::string::npos) << found.at("ffn_up").first.note;
}

TEST(Judge, ARowIsWrongFromItsAllowanceOn) {
  const auto score = [](std::vector<double> deviations, int64_t width) {
    Judged out;
    const std::vector<double> expected(deviations.size(), 0.0), sigma(deviations.size(), 1.0);
    Score({expected, deviations, sigma, width, {}}, out);
    return out;
  };
  const Judged edges = score({0, 12, 18, 24, 0, 15}, 1);
  EXPECT_EQ(edges.rows, 6);
  EXPECT_EQ(edges.bad, (std::vector<bool>{false, false, true, true, false, true}));
  EXPECT_EQ(edges.row, 2);
  EXPECT_DOUBLE_EQ(edges.good_ratio, 1);
  EXPECT_DOUBLE_EQ(edges.mildest, 1.25);
  EXPECT_DOUBLE_EQ(score({24, 18}, 1).mildest, 1.5);
  EXPECT_DOUBLE_EQ(score({18, 24}, 1).mildest, 1.5);
  // Many elements that are each within their allowance are too much together.
  EXPECT_DOUBLE_EQ(score(std::vector<double>(8, 2), 1).ratio, 2.0 / 3);
  EXPECT_DOUBLE_EQ(score({3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 8).ratio, 3.0 / 5);
  EXPECT_EQ(score(std::vector<double>(8, 3), 1).row, -1);
  const Judged whole = score(std::vector<double>(8, 4), 1);
  EXPECT_EQ(whole.bad, std::vector<bool>(8, true));
  EXPECT_DOUBLE_EQ(whole.ratio, 4.0 / 3);
  EXPECT_EQ(whole.bad_rows, 8);
  EXPECT_EQ(whole.row, 0);
}

}  // namespace
}  // namespace apr::bisect
