// Perplexities against the loops of transformers' page and of llama.cpp's program, written out over whole
// arrays of logits; and against PyTorch's figures for real models.
#include "eval/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "eval/window_runner.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

constexpr SessionOptions kExact{.compute = {.threads = 2, .precision = Precision::kExact}};

std::string ModelPath(const std::string& name) { return std::string(APR_SOURCE_DIR "/testdata/model/") + name; }

std::vector<int32_t> MakeIds(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> ids;
  uint32_t seed = 7;
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525U + 1013904223U;
    ids.push_back(static_cast<int32_t>((seed >> 8) % static_cast<uint32_t>(vocabulary)));
  }
  return ids;
}

// -log p of ids[1..] given those before, in long double from all logits at once.
std::vector<long double> Losses(Session& session, std::span<const int32_t> ids) {
  const int sequence = session.NewSequence();
  const Tensor logits = session.Append(sequence, ids, static_cast<int64_t>(ids.size()));
  session.FreeSequence(sequence);
  std::vector<long double> out;
  const auto width = static_cast<size_t>(logits.shape()[1]);
  for (size_t t = 0; t + 1 < ids.size(); ++t) {
    const auto row = logits.f32().subspan(t * width, width);
    long double sum = 0;
    for (const float l : row) sum += std::exp(static_cast<long double>(l));
    out.push_back(std::log(sum) - row[static_cast<size_t>(ids[t + 1])]);
  }
  return out;
}

// The loop of transformers' docs/source/en/perplexity.md. `slip`: a planted fault, scores one token more.
double TransformersNll(Session& session, std::span<const int32_t> ids, int64_t max_length, int64_t stride, int64_t slip = 0) {
  const auto seq_len = static_cast<int64_t>(ids.size());
  long double nll_sum = 0;
  int64_t n_tokens = 0;
  int64_t prev_end_loc = 0;
  for (int64_t begin_loc = 0; begin_loc < seq_len; begin_loc += stride) {
    const int64_t end_loc = std::min(begin_loc + max_length, seq_len);
    const int64_t trg_len = end_loc - prev_end_loc + slip;
    const auto losses = Losses(session, ids.subspan(static_cast<size_t>(begin_loc), static_cast<size_t>(end_loc - begin_loc)));
    const auto count = std::min(static_cast<size_t>(trg_len), losses.size());
    long double mean = 0;
    for (size_t i = losses.size() - count; i < losses.size(); ++i) mean += losses[i] / static_cast<long double>(count);
    nll_sum += mean * static_cast<long double>(trg_len - 1);
    n_tokens += trg_len - 1;
    prev_end_loc = end_loc;
    if (end_loc == seq_len) break;
  }
  return static_cast<double>(nll_sum / static_cast<long double>(n_tokens));
}

TEST(Perplexity, IsThatOfTransformersPage) {
  for (const char* name : {"llama", "mistral", "gemma3"}) {
    Session session(Model::Load(ModelPath(name)), kExact);
    const auto ids = MakeIds(61, session.model().config().vocab_size);
    for (const auto& [window, stride] : {std::pair{61, 61}, std::pair{100, 50}, std::pair{20, 20}, std::pair{20, 7}, std::pair{16, 15}, std::pair{2, 2}}) {
      const auto result = Perplexity(session, ids, PlanTransformersWindows(61, window, stride), {});
      EXPECT_NEAR(result.mean_nll, TransformersNll(session, ids, window, stride), 1e-12) << name << window << " " << stride;
      EXPECT_EQ(result.ppl, std::exp(result.mean_nll));
      EXPECT_GT(result.nll_error, 0);
    }
    const auto slipped = TransformersNll(session, ids, 20, 7, 1);
    EXPECT_GT(std::abs(slipped - TransformersNll(session, ids, 20, 7)), 1e-6);
  }
}

TEST(Perplexity, IsThatOfLlamaCpp) {
  Session session(Model::Load(ModelPath("llama")), kExact);
  const auto ids = MakeIds(70, session.model().config().vocab_size);
  for (const std::optional<int32_t> bos : {std::optional<int32_t>(), std::optional<int32_t>(1)}) {
    const auto result = Perplexity(session, ids, PlanLlamaCppWindows(70, 16, bos), {});
    long double nll = 0;
    int64_t count = 0;
    for (size_t begin = 0; begin + 16 <= ids.size(); begin += 16) {
      std::vector<int32_t> chunk(ids.begin() + static_cast<ptrdiff_t>(begin), ids.begin() + static_cast<ptrdiff_t>(begin) + 16);
      if (bos) chunk[0] = *bos;
      const auto losses = Losses(session, chunk);
      for (size_t i = 8; i < losses.size(); ++i, ++count) nll += losses[i];  // n_ctx - n_ctx / 2 - 1 of them
    }
    EXPECT_EQ(result.num_tokens, count);
    EXPECT_EQ(result.num_tokens, 4 * 7);
    EXPECT_NEAR(result.mean_nll, static_cast<double>(nll) / static_cast<double>(count), 1e-12);
  }
}

// Blocks change no bit: dynamic NTK follows the length of the window from its first block on.
TEST(Perplexity, DoesNotDependOnBlocks) {
  for (const std::string& path : {ModelPath("llama"), std::string(APR_SOURCE_DIR "/../shared/oracle/model/llama-dynamic")}) {
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
    Session session(Model::Load(path), kExact);
    const int64_t vocabulary = session.model().config().vocab_size;
    const auto ids = MakeIds(300, vocabulary);
    const EvalWindow window{0, 300, 40, 1};
    std::vector<std::byte> rows[2];
    for (const int64_t block : {vocabulary * 7, vocabulary * 512}) {
      WindowRunner runner(session, ids, {}, block);
      runner.Begin(window);
      int64_t next = 40;
      while (const auto part = runner.Next({})) {
        EXPECT_EQ(part->first, next);
        next += part->logits.shape()[0];
        auto& out = rows[block == vocabulary * 7 ? 0 : 1];
        out.insert(out.end(), part->logits.view().bytes.begin(), part->logits.view().bytes.end());
      }
      EXPECT_EQ(next, 300);
    }
    EXPECT_EQ(rows[0], rows[1]);
    const auto losses = Losses(session, ids);
    const auto result = Perplexity(session, ids, {.windows = {window}}, {});
    long double mean = 0;
    for (size_t i = 39; i < 299; ++i) mean += losses[i] / 260;
    EXPECT_NEAR(result.mean_nll, static_cast<double>(mean), 1e-12);
  }
}

TEST(Perplexity, RealModelsAsPyTorch) {
  const char* folder = std::getenv("APR_REAL_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "APR_REAL_MODELS is not set: no folder with the real models";
  for (const auto& [oracle, file] : {std::pair{"smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"}, std::pair{"gemma3-270m", "gemma-3-270m-q4_k_m.gguf"}}) {
    const std::string model = std::string(folder) + "/" + file;
    const std::string path = std::string(APR_SOURCE_DIR "/../shared/oracle/real/") + oracle + "/expected.json";
    if (!std::filesystem::exists(model) || !std::filesystem::exists(path)) GTEST_SKIP() << model << " or its oracle is absent";
    Session session(Model::Load(model), kExact);
    const auto tokenizer = Tokenizer::FromModelFile(session.model().file());
    std::ifstream in(path);
    int compared = 0;
    const Json cases = Json::parse(in).at("cases");
    for (const auto& [name, expected] : cases.items()) {
      if (!expected.contains("ppl") || !expected.contains("text")) continue;
      const auto ids = tokenizer->Encode(expected["text"].get<std::string>(), {.add_special = true, .parse_special = true}).ids;
      const auto tokens = static_cast<int64_t>(ids.size());
      EXPECT_EQ(tokens, expected["tokens"]);
      const auto result = Perplexity(session, ids, PlanTransformersWindows(tokens, tokens, tokens), {});
      EXPECT_NEAR(result.ppl / expected["ppl"].get<double>(), 1, 1e-5) << oracle << " " << name;
      ++compared;
    }
    EXPECT_GT(compared, 1) << oracle;
  }
}

TEST(Perplexity, OfGivenLogProbabilities) {
  const std::vector<double> values = {-1, -2, -3};
  const auto result = PerplexityOf(values);
  EXPECT_DOUBLE_EQ(result.ppl, std::exp(2.0));
  EXPECT_DOUBLE_EQ(result.nll_error, 1 / std::sqrt(3.0));
  for (const std::vector<double>& bad : {std::vector<double>{}, {0.1}, {-1, std::nan("")}, {-INFINITY}}) {
    EXPECT_THROW(PerplexityOf(bad), Error);
  }
}

TEST(WindowPlan, RefusesWhatScoresNothing) {
  EXPECT_THROW(PlanTransformersWindows(1, 10, 5), Error);
  EXPECT_THROW(PlanTransformersWindows(10, 5, 6), Error);
  EXPECT_THROW(PlanTransformersWindows(10, 5, 0), Error);
  EXPECT_THROW(PlanTransformersWindows(10, 1, 1), Error);
  EXPECT_THROW(PlanLlamaCppWindows(31, 16, {}), Error);
  EXPECT_EQ(PlanLlamaCppWindows(32, 16, {}).scored(), 14);
  // Every token but the first is scored once when windows overlap.
  for (const int64_t stride : {1, 3, 9}) EXPECT_EQ(PlanTransformersWindows(50, 10, stride).scored(), 49);
  EXPECT_EQ(PlanTransformersWindows(50, 10, 10).scored(), 45);
  EXPECT_EQ(PlanTransformersWindows(50, 10, 3).First(12).scored(), 12);
}

}  // namespace
}  // namespace apr
