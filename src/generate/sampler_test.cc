// The sampler against its stated formula: by hand, and by chi-square over many draws.
#include "generate/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "generate/repetition.h"

namespace apr {
namespace {

const std::vector<float> kLogits = {2.0F, 1.0F, 0.5F, 0.0F, -1.0F, -3.0F, 1.5F, -0.5F};

TensorView View(const std::vector<float>& logits) {
  return {DType::kF32, Shape{static_cast<int64_t>(logits.size())}, std::as_bytes(std::span(logits))};
}

std::vector<double> Probabilities(const SamplerOptions& options, const std::vector<float>& logits,
                                  std::vector<int32_t> history = {}) {
  std::vector<double> out(logits.size(), 0.0);
  for (const TokenProbability& t : Sampler(options).Distribution(View(logits), history)) {
    out[static_cast<size_t>(t.id)] = t.probability;
  }
  return out;
}

std::vector<double> Softmax(const std::vector<double>& logits) {
  double sum = 0;
  std::vector<double> out;
  for (const double l : logits) sum += std::exp(l);
  for (const double l : logits) out.push_back(std::exp(l) / sum);
  return out;
}

void ExpectNear(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-12) << "token " << i;
}

// Pearson's statistic of `draws` draws against `expected`.
double ChiSquare(const SamplerOptions& options, const std::vector<double>& expected, int draws) {
  Sampler sampler(options);
  std::vector<double> seen(expected.size(), 0.0);
  for (int i = 0; i < draws; ++i) ++seen[static_cast<size_t>(sampler.Sample(View(kLogits), {}))];
  double statistic = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double wanted = expected[i] * draws;
    if (wanted == 0) {
      EXPECT_EQ(seen[i], 0) << "token " << i << " cannot be drawn";
    } else {
      statistic += (seen[i] - wanted) * (seen[i] - wanted) / wanted;
    }
  }
  return statistic;
}

// 99.99th percentile with 7 degrees of freedom is 29.88 (fewer degrees: less).
constexpr double kCritical = 29.88;

TEST(Sampler, DrawsFollowTheFormula) {
  const SamplerOptions plain{.temperature = 1};
  EXPECT_LT(ChiSquare(plain, Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5}), 100000), kCritical);
  const SamplerOptions warm{.temperature = 2, .top_k = 4};
  const std::vector<double> top = Softmax({1, 0.5, 0.25, 0.75});
  EXPECT_LT(ChiSquare(warm, {top[0], top[1], top[2], 0, 0, 0, top[3], 0}, 100000), kCritical);
}

TEST(Sampler, TheChiSquareTestCanFail) {
  // 5 % off in temperature is found.
  const SamplerOptions off{.temperature = 1.05};
  EXPECT_GT(ChiSquare(off, Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5}), 100000), kCritical);
}

TEST(Sampler, TruncationsKeepWhatTheyState) {
  const std::vector<double> p = Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5});
  // In order of probability: 0, 6, 1, 2, 3, 7, 4, 5.
  const double first_two = p[0] + p[6];
  ExpectNear(Probabilities({.temperature = 1, .top_p = first_two - 1e-6}, kLogits),
             {p[0] / first_two, 0, 0, 0, 0, 0, p[6] / first_two, 0});
  const double three = first_two + p[1];
  ExpectNear(Probabilities({.temperature = 1, .top_p = first_two + 1e-6}, kLogits),
             {p[0] / three, p[1] / three, 0, 0, 0, 0, p[6] / three, 0});
  // exp(-1) = 0.3679 of the largest: tokens 0 and 6 (0.6065) and 1 (0.3679, just inside).
  ExpectNear(Probabilities({.temperature = 1, .min_p = 0.36}, kLogits),
             {p[0] / three, p[1] / three, 0, 0, 0, 0, p[6] / three, 0});
  ExpectNear(Probabilities({.temperature = 1, .min_p = 0.37}, kLogits), {p[0] / first_two, 0, 0, 0, 0, 0, p[6] / first_two, 0});
}

TEST(Sampler, TypicalKeepsWhatIsNearestToTheEntropy) {
  const std::vector<double> p = Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5});
  double entropy = 0;
  for (const double q : p) entropy -= q * std::log(q);
  size_t nearest = 0;
  for (size_t i = 1; i < p.size(); ++i) {
    if (std::abs(-std::log(p[i]) - entropy) < std::abs(-std::log(p[nearest]) - entropy)) nearest = i;
  }
  const std::vector<double> got = Probabilities({.temperature = 1, .typical_p = 1e-6}, kLogits);
  EXPECT_DOUBLE_EQ(got[nearest], 1);
  EXPECT_NE(nearest, 0U);  // unlike top-p, which would have kept the most probable one
}

TEST(Sampler, XtcIsTheMixtureItStates) {
  const std::vector<double> p = Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5});
  // At least 0.14: tokens 0, 6 and 1; the last of them stays when the others are excluded.
  ASSERT_GT(p[1], 0.14);
  ASSERT_LT(p[2], 0.14);
  const double left = 1 - p[0] - p[6];
  for (const double chance : {0.4, 1.0}) {
    std::vector<double> expected;
    for (size_t i = 0; i < p.size(); ++i) {
      expected.push_back((1 - chance) * p[i] + (i == 0 || i == 6 ? 0 : chance * p[i] / left));
    }
    const SamplerOptions options{.temperature = 1, .xtc_probability = chance, .xtc_threshold = 0.14};
    ExpectNear(Probabilities(options, kLogits), expected);
    EXPECT_LT(ChiSquare(options, expected, 100000), kCritical);
    SamplerOptions other = options;
    other.xtc_threshold = 0.45;  // a single token: nothing is excluded
    ExpectNear(Probabilities(other, kLogits), p);
  }
}

TEST(Sampler, EveryTruncationDrawsFromItsDistribution) {
  const std::vector<SamplerOptions> all = {{.temperature = 0.7, .top_p = 0.8},
                                           {.temperature = 1.3, .min_p = 0.2},
                                           {.temperature = 1, .typical_p = 0.6},
                                           {.temperature = 1, .top_k = 3, .top_p = 0.7, .min_p = 0.1, .xtc_probability = 0.5},
                                           {.temperature = 1.2, .mirostat = true, .mirostat_tau = 1, .mirostat_eta = 1e-300}};
  for (const SamplerOptions& options : all) {
    const std::vector<double> expected = Probabilities(options, kLogits);
    EXPECT_LT(ChiSquare(options, expected, 100000), kCritical) << options.temperature;
  }
}

TEST(Sampler, DryPenalisesByTheLengthOfTheRepetition) {
  // ... 1 2 3 4 ... 1 2 3: token 4 would make the repetition of 3 tokens one longer; 2 follows an end of length 0.
  const std::vector<int32_t> history = {7, 1, 2, 3, 4, 5, 1, 2, 3};
  SamplerOptions options{.temperature = 1, .dry_multiplier = 0.5, .dry_base = 2, .dry_allowed_length = 2};
  ExpectNear(Probabilities(options, kLogits, history), Softmax({2, 1, 0.5, 0, -1 - 0.5 * 2, -3, 1.5, -0.5}));
  options.dry_allowed_length = 4;
  ExpectNear(Probabilities(options, kLogits, history), Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5}));
  options.dry_allowed_length = 2;
  options.dry_last_n = 5;  // 5 1 2 3: nothing repeats
  ExpectNear(Probabilities(options, kLogits, history), Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5}));
  options.dry_last_n = -1;
  options.dry_breakers = TokenMask(8);
  options.dry_breakers.Add(2);  // the end counts from behind it: length 1
  ExpectNear(Probabilities(options, kLogits, history), Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5}));
  options.dry_allowed_length = 1;
  ExpectNear(Probabilities(options, kLogits, history), Softmax({2, 1, 0.5, 0, -1.5, -3, 1.5, -0.5}));
}

TEST(Repetition, AgreesWithTheDefinition) {
  uint32_t seed = 1;
  for (int round = 0; round < 300; ++round) {
    std::vector<int32_t> h;
    for (int i = 0; i < round % 40; ++i) {
      seed = seed * 1664525U + 1013904223U;
      h.push_back(static_cast<int32_t>((seed >> 16) % (2 + static_cast<uint32_t>(round) % 3)));
    }
    TokenMask breakers(8);
    if (round % 2 == 1) breakers.Add(round % 3);
    std::map<int32_t, int64_t> expected;
    const auto n = static_cast<int64_t>(h.size());
    for (int64_t i = 1; i < n; ++i) {
      int64_t length = 0;
      while (length < i && h[static_cast<size_t>(i - 1 - length)] == h[static_cast<size_t>(n - 1 - length)] &&
             !breakers.Contains(h[static_cast<size_t>(n - 1 - length)])) {
        ++length;
      }
      const int32_t next = h[static_cast<size_t>(i)];
      if (length > 0 && !breakers.Contains(next)) expected[next] = std::max(expected[next], length);
    }
    EXPECT_EQ(RepetitionLengths(h, breakers), expected);
  }
  // Linear on the worst text there is: quadratic would take minutes.
  const std::vector<int32_t> same(1 << 20, 1);
  EXPECT_EQ(RepetitionLengths(same, TokenMask(2)).at(1), (1 << 20) - 1);
}

TEST(Sampler, MirostatHoldsItsSurprise) {
  const SamplerOptions options{.temperature = 1, .mirostat = true, .mirostat_tau = 1.5, .mirostat_eta = 0.05};
  Sampler sampler(options);
  EXPECT_EQ(sampler.mirostat_mu(), 3);
  // One step by hand: mu falls or rises with the surprise of what was drawn.
  const auto before = sampler.Distribution(View(kLogits), {});
  const int32_t id = sampler.Sample(View(kLogits), {});
  double p = 0;
  for (const TokenProbability& t : before) p = t.id == id ? t.probability : p;
  EXPECT_NEAR(sampler.mirostat_mu(), 3 - 0.05 * (-std::log2(p) - 1.5), 1e-12);
  for (const TokenProbability& t : before) EXPECT_LE(-std::log2(Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5})[static_cast<size_t>(t.id)]), 3);
  double surprise = 0;
  const int draws = 20000;
  for (int i = 0; i < draws; ++i) {
    const auto distribution = sampler.Distribution(View(kLogits), {});
    const int32_t drawn = sampler.Sample(View(kLogits), {});
    for (const TokenProbability& t : distribution) surprise -= t.id == drawn ? std::log2(t.probability) / draws : 0;
  }
  EXPECT_NEAR(surprise, 1.5, 0.02);
}

TEST(Sampler, OnlyAllowedTokensAreDrawn) {
  TokenMask allowed(8);
  allowed.Add(3);
  allowed.Add(4);
  Sampler greedy(SamplerOptions{});
  EXPECT_EQ(greedy.Sample(View(kLogits), {}, &allowed), 3);
  const std::vector<double> two = Softmax({0, -1});
  for (const SamplerOptions& options : {SamplerOptions{.temperature = 1}, SamplerOptions{.temperature = 1, .top_k = 2}}) {
    const auto got = Sampler(options).Distribution(View(kLogits), {}, &allowed);
    ASSERT_EQ(got.size(), 2U);
    EXPECT_NEAR(got[0].probability, two[0], 1e-12);
    EXPECT_EQ(got[0].id, 3);
  }
  EXPECT_EQ(allowed.count(), 2);
  const TokenMask none(8);
  EXPECT_THROW(greedy.Sample(View(kLogits), {}, &none), Error);
  EXPECT_THROW(Sampler(SamplerOptions{.temperature = 1}).Sample(View(kLogits), {}, &none), Error);
}

TEST(Sampler, PenaltiesActOnRecentTokens) {
  SamplerOptions options{.temperature = 1, .repeat_penalty = 2, .presence_penalty = 0.25, .frequency_penalty = 0.5};
  // Token 0 twice: 2 / 2 - 0.25 - 1; token 4 once: -1 * 2 - 0.25 - 0.5.
  ExpectNear(Probabilities(options, kLogits, {0, 4, 0}), Softmax({-0.25, 1, 0.5, 0, -2.75, -3, 1.5, -0.5}));
  options.repeat_last_n = 1;  // only the last token 0
  ExpectNear(Probabilities(options, kLogits, {0, 4, 0}), Softmax({0.25, 1, 0.5, 0, -1, -3, 1.5, -0.5}));
  options.repeat_last_n = 0;
  ExpectNear(Probabilities(options, kLogits, {0, 4, 0}), Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5}));
  options.repeat_last_n = -1;
  ExpectNear(Probabilities(options, kLogits, {0, 4, 0}), Softmax({-0.25, 1, 0.5, 0, -2.75, -3, 1.5, -0.5}));
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  Sampler sampler(SamplerOptions{});
  EXPECT_EQ(sampler.Sample(View({1, 3, 3, 2}), {}), 1);
  EXPECT_EQ(sampler.Sample(View({-5, -4, -6}), {}), 1);
  Sampler biased(SamplerOptions{.logit_bias = {{3, 1.5}}});
  EXPECT_EQ(biased.Sample(View({1, 3, 3, 2}), {}), 3);
  const std::vector<double> f64 = {0.5, 0.75, 0.25};
  EXPECT_EQ(sampler.Sample({DType::kF64, Shape{3}, std::as_bytes(std::span(f64))}, {}), 1);
}

TEST(Sampler, SameSeedSameDraws) {
  Sampler a(SamplerOptions{.temperature = 1, .seed = 7});
  Sampler b(SamplerOptions{.temperature = 1, .seed = 7});
  Sampler c(SamplerOptions{.temperature = 1, .seed = 8});
  int different = 0;
  for (int i = 0; i < 100; ++i) {
    const int32_t id = a.Sample(View(kLogits), {});
    EXPECT_EQ(id, b.Sample(View(kLogits), {}));
    different += id != c.Sample(View(kLogits), {}) ? 1 : 0;
  }
  EXPECT_GT(different, 10);
}

TEST(Sampler, RefusesWhatIsNoDistribution) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler(SamplerOptions{.temperature = temperature});
    EXPECT_THROW(sampler.Sample(View({0, kNan, 1}), {}), Error);
    EXPECT_THROW(sampler.Sample(View({0, kInf, 1}), {}), Error);
    EXPECT_THROW(sampler.Sample(View({-kInf, -kInf}), {}), Error);
    EXPECT_EQ(sampler.Sample(View({-kInf, 0, -kInf}), {}), 1);
  }
  EXPECT_THROW(Sampler(SamplerOptions{.temperature = -1}), Error);
  EXPECT_THROW(Sampler(SamplerOptions{.top_p = 0}), Error);
  EXPECT_THROW(Sampler(SamplerOptions{.repeat_penalty = 0}), Error);
  EXPECT_THROW(Sampler(SamplerOptions{.logit_bias = {{9, 1}}}).Sample(View({0, 1}), {}), Error);
}

TEST(Sampler, TopTokensAreOfPlainSoftmax) {
  const std::vector<double> p = Softmax({2, 1, 0.5, 0, -1, -3, 1.5, -0.5});
  const auto top = TopTokens(View(kLogits), 3);
  ASSERT_EQ(top.size(), 3U);
  EXPECT_EQ(top[0].id, 0);
  EXPECT_EQ(top[1].id, 6);
  EXPECT_EQ(top[2].id, 1);
  EXPECT_NEAR(top[1].probability, p[6], 1e-12);
}

}  // namespace
}  // namespace apr
