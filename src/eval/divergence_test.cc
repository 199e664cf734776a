// Divergence of two models against its definition over whole arrays of logits.
#include "eval/divergence.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "model/model.h"

namespace apr {
namespace {

std::shared_ptr<const Model> Llama() { return Model::Load(APR_SOURCE_DIR "/testdata/model/llama"); }

SessionOptions Options(ExecutorKind kind) {
  return {.executor = kind, .compute = {.threads = 2, .precision = Precision::kExact}};
}

std::vector<int32_t> Ids(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((i * i * 7 + 3 * i) % vocabulary));
  return ids;
}

TEST(Divergence, OfAModelFromItselfIsNothing) {
  Session a(Llama(), Options(ExecutorKind::kCpu));
  Session b(Llama(), Options(ExecutorKind::kCpu));
  const auto ids = Ids(40, a.model().config().vocab_size);
  const Divergence d = Diverge(a, b, ids, PlanTransformersWindows(40, 16, 8), {});
  EXPECT_EQ(d.kld.sorted.back(), 0);
  EXPECT_EQ(d.top1, 1);
  EXPECT_EQ(d.rms_delta_p, 0);
  EXPECT_EQ(d.log_ratio, 0);
  EXPECT_NEAR(d.correlation, 1, 1e-12);
  EXPECT_EQ(d.num_tokens, 39);
}

TEST(Divergence, RoundingIsSeenAndSmall) {
  Session a(Llama(), Options(ExecutorKind::kReference));
  Session b(Llama(), Options(ExecutorKind::kCpu));
  const auto ids = Ids(40, a.model().config().vocab_size);
  const Divergence d = Diverge(a, b, ids, PlanTransformersWindows(40, 40, 40), {});
  EXPECT_GT(d.kld.mean, 0);
  EXPECT_LT(d.kld.mean, 1e-10);
  EXPECT_GT(d.rms_delta_p, 0);
}

// Two different models of one vocabulary: every figure from its formula.
TEST(Divergence, IsItsDefinition) {
  const auto model_b = Model::Load(APR_SOURCE_DIR "/testdata/model/mistral");
  Session a(Llama(), Options(ExecutorKind::kCpu));
  Session b(model_b, Options(ExecutorKind::kCpu));
  const int64_t vocabulary = a.model().config().vocab_size;
  ASSERT_EQ(model_b->config().vocab_size, vocabulary);
  const auto ids = Ids(30, vocabulary);
  const Divergence d = Diverge(a, b, ids, PlanTransformersWindows(30, 30, 30), {});
  const Tensor la = a.Append(a.NewSequence(), ids, 30);
  const Tensor lb = b.Append(b.NewSequence(), ids, 30);
  double kld = 0, square = 0, ratio = 0;
  int same = 0;
  for (int64_t t = 0; t < 29; ++t) {
    std::vector<double> p[2];
    size_t best[2] = {};
    for (int side : {0, 1}) {
      const auto row = (side == 0 ? la : lb).f32().subspan(static_cast<size_t>(t * vocabulary), static_cast<size_t>(vocabulary));
      double sum = 0;
      for (const float l : row) sum += std::exp(static_cast<double>(l));
      for (const float l : row) p[side].push_back(std::exp(static_cast<double>(l)) / sum);
      best[side] = static_cast<size_t>(std::ranges::max_element(row) - row.begin());
    }
    for (size_t i = 0; i < p[0].size(); ++i) kld += p[0][i] * std::log(p[0][i] / p[1][i]) / 29;
    const auto id = static_cast<size_t>(ids[static_cast<size_t>(t) + 1]);
    square += 1e4 * (p[1][id] - p[0][id]) * (p[1][id] - p[0][id]) / 29;
    ratio += std::log(p[0][id] / p[1][id]) / 29;
    same += best[0] == best[1] ? 1 : 0;
  }
  EXPECT_NEAR(d.kld.mean, kld, 1e-12);
  EXPECT_GT(d.kld.mean, 1e-3);
  EXPECT_NEAR(d.rms_delta_p, std::sqrt(square), 1e-10);
  EXPECT_NEAR(d.log_ratio, ratio, 1e-12);
  EXPECT_NEAR(std::log(d.ppl_b / d.ppl_a), ratio, 1e-12);
  EXPECT_DOUBLE_EQ(d.top1, same / 29.0);
  const Json json = d.ToJson();
  EXPECT_EQ(json["kld"]["max"], d.kld.sorted.back());
  EXPECT_GE(json["kld"]["p99_9"].get<double>(), json["kld"]["p99"].get<double>());
}

TEST(Divergence, OtherVocabulariesAreRefused) {
  Session a(Llama(), Options(ExecutorKind::kCpu));
  Session b(Model::Load(APR_SOURCE_DIR "/testdata/model/tiny-chat"), Options(ExecutorKind::kCpu));
  const auto ids = Ids(10, 90);
  EXPECT_THROW(Diverge(a, b, ids, PlanTransformersWindows(10, 10, 10), {}), Error);
}

}  // namespace
}  // namespace apr
