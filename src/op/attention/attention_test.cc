// Tests of attention on every table: against the f64 definition, and bit for bit over chunks, threads,
// batches and taps.
#include "op/attention/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/cpu_features.h"
#include "op/test_node.h"

namespace apr {
namespace {

class Attention : public testing::Test {
 protected:
  void TearDown() override { ForceIsa(AvailableIsas().back()); }
};

struct Problem {
  AttentionAttributes a;
  bool sinks = false;
  int64_t tokens = 0;
};

WeightRef Sinks(const Problem& s) { return FloatWeight(RandomFloats(s.a.heads, 99), Shape{s.a.heads}); }

// q, k, v of a whole sequence and its caches.
struct Sequence {
  std::vector<float> q, k, v;
  explicit Sequence(const Problem& s)
      : q(RandomFloats(s.tokens * s.a.heads * s.a.k_dim, 1)),
        k(RandomFloats(s.tokens * s.a.kv_heads * s.a.k_dim, 2)),
        v(RandomFloats(s.tokens * s.a.kv_heads * s.a.v_dim, 3)) {}
};

template <typename Real>
struct Cache {
  std::vector<Real> keys, values;
  KvCache<Real> view;
  // Memory behind the filled rows is NaN: reading it into a result shows.
  Cache(const Problem& s, int64_t capacity)
      : keys(static_cast<size_t>(s.a.kv_heads * capacity * s.a.k_dim), std::numeric_limits<Real>::quiet_NaN()),
        values(static_cast<size_t>(s.a.kv_heads * capacity * s.a.v_dim), std::numeric_limits<Real>::quiet_NaN()),
        view{keys.data(), values.data(), capacity, s.a.k_dim, s.a.v_dim} {}
};

TestNode Node(const Problem& s, int64_t tokens) {
  std::vector<WeightRef> weights;
  if (s.sinks) weights.push_back(Sinks(s));
  return TestNode(AttentionOp(), s.a, tokens,
                  {s.a.heads * s.a.k_dim, s.a.kv_heads * s.a.k_dim, s.a.kv_heads * s.a.v_dim}, std::move(weights));
}

void CopyRows(const std::vector<float>& from, int64_t width, int64_t first, int64_t count, std::vector<float>& to,
              int64_t at = 0) {
  std::copy_n(from.begin() + first * width, count * width, to.begin() + at * width);
}

void SetInputs(const Problem& s, const Sequence& sequence, int64_t first, int64_t count, TestNode& node, int64_t at = 0) {
  CopyRows(sequence.q, s.a.heads * s.a.k_dim, first, count, node.input(0), at);
  CopyRows(sequence.k, s.a.kv_heads * s.a.k_dim, first, count, node.input(1), at);
  CopyRows(sequence.v, s.a.kv_heads * s.a.v_dim, first, count, node.input(2), at);
}

struct Taps {
  std::vector<float> scores, softmax;
};

// The sequence in chunks of `chunk` tokens.
std::vector<float> InChunks(const Problem& s, const Sequence& sequence, int64_t chunk, const std::string& isa, int threads,
                            Taps* taps = nullptr) {
  Cache<float> cache(s, s.tokens + 3);
  std::vector<float> out;
  for (int64_t first = 0; first < s.tokens; first += chunk) {
    const int64_t count = std::min(chunk, s.tokens - first);
    TestNode node = Node(s, count);
    SetInputs(s, sequence, first, count, node);
    node.sequences = {{.first = 0, .count = count, .position = first, .total_length = s.tokens}};
    node.caches = {cache.view};
    if (taps != nullptr) {
      taps->scores.assign(static_cast<size_t>(s.a.heads * count * (first + count)), -1);
      taps->softmax = taps->scores;
      node.more_outputs = {taps->scores, taps->softmax};
    }
    const std::vector<float> part = node.Cpu(isa, threads);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

std::vector<Problem> Problems() {
  const AttentionAttributes plain{.heads = 6, .kv_heads = 2, .k_dim = 64, .v_dim = 64, .scale = 0.125};
  AttentionAttributes windowed = plain;
  windowed.window = 20;
  AttentionAttributes capped = plain;
  capped.softcap = 5;
  AttentionAttributes uneven{.heads = 4, .kv_heads = 4, .k_dim = 12, .v_dim = 20, .scale = 0.3};
  AttentionAttributes narrow{.heads = 4, .kv_heads = 1, .k_dim = 8, .v_dim = 4, .scale = 0.3, .window = 33};
  AttentionAttributes wide{.heads = 4, .kv_heads = 1, .k_dim = 256, .v_dim = 256, .scale = 1.0 / 16};
  return {{plain, false, 1},    {plain, false, 31},  {plain, false, 100}, {windowed, false, 100},
          {capped, true, 70},   {windowed, true, 5}, {uneven, false, 67}, {narrow, true, 130},
          {wide, false, 45}};
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_F(Attention, MatchesTheReference) {
  for (const Problem& s : Problems()) {
    const Sequence sequence(s);
    TestNode node = Node(s, s.tokens);
    SetInputs(s, sequence, 0, s.tokens, node);
    Cache<double> cache(s, s.tokens);
    node.caches_f64 = {cache.view};
    const auto matrix = static_cast<size_t>(s.a.heads * s.tokens * s.tokens);
    std::vector<double> scores(matrix);
    std::vector<double> softmax(matrix);
    node.more_outputs_f64 = {scores, softmax};
    const std::vector<double> want = node.Reference();
    for (const std::string& isa : AvailableIsas()) {
      Taps taps;
      const std::vector<float> got = InChunks(s, sequence, s.tokens, isa, 2, &taps);
      EXPECT_LT(RelativeError(got, want), 3e-6) << isa << " tokens " << s.tokens << " k_dim " << s.a.k_dim;
      EXPECT_LT(RelativeError(taps.scores, scores), 3e-6) << isa;
      EXPECT_LT(RelativeError(taps.softmax, softmax), 1e-5) << isa;
    }
  }
}

TEST_F(Attention, BitsDoNotDependOnChunksThreadsOrTaps) {
  for (const Problem& s : Problems()) {
    const Sequence sequence(s);
    for (const std::string& isa : AvailableIsas()) {
      const std::vector<float> want = InChunks(s, sequence, s.tokens, isa, 1);
      for (const int64_t chunk : {1, 2, 3, 7, 16, 33, 64}) {
        EXPECT_TRUE(SameBits(InChunks(s, sequence, chunk, isa, 1), want)) << isa << " chunk " << chunk << " of " << s.tokens;
      }
      EXPECT_TRUE(SameBits(InChunks(s, sequence, s.tokens, isa, 2), want));
      EXPECT_TRUE(SameBits(InChunks(s, sequence, 5, isa, 3), want));
      Taps taps;
      EXPECT_TRUE(SameBits(InChunks(s, sequence, s.tokens, isa, 2, &taps), want));
      EXPECT_TRUE(SameBits(InChunks(s, sequence, 9, isa, 2, &taps), want));
    }
  }
}

TEST_F(Attention, BitsDoNotDependOnTheBatch) {
  Problem s = Problems()[3];
  const Sequence sequence(s);
  for (const std::string& isa : AvailableIsas()) {
    const std::vector<float> alone = InChunks(s, sequence, s.tokens, isa, 1);
    // The sequence twice: whole, and its first 30 tokens.
    Cache<float> first(s, s.tokens);
    Cache<float> second(s, 40);
    TestNode node = Node(s, 30 + s.tokens);
    SetInputs(s, sequence, 0, 30, node, 0);
    SetInputs(s, sequence, 0, s.tokens, node, 30);
    node.sequences = {{.sequence = 0, .first = 0, .count = 30, .total_length = 30},
                      {.sequence = 1, .first = 30, .count = s.tokens, .total_length = s.tokens}};
    node.caches = {second.view, first.view};
    const std::vector<float> both = node.Cpu(isa, 2);
    const int64_t width = s.a.heads * s.a.v_dim;
    EXPECT_TRUE(SameBits({both.begin(), both.begin() + 30 * width}, {alone.begin(), alone.begin() + 30 * width}));
    EXPECT_TRUE(SameBits({both.begin() + 30 * width, both.end()}, alone));
  }
}

// A NaN in a key or value reaches the queries that see it and no other: the check of the mask.
TEST_F(Attention, TheMaskHidesLaterKeys) {
  for (const int64_t window : {0, 10}) {
    Problem s = Problems()[2];
    s.a.window = window;
    for (const bool in_key : {true, false}) {
      Sequence sequence(s);
      constexpr int64_t kBad = 37;
      std::vector<float>& bad = in_key ? sequence.k : sequence.v;
      bad[static_cast<size_t>(kBad * s.a.kv_heads * s.a.k_dim)] = std::numeric_limits<float>::quiet_NaN();
      for (const std::string& isa : AvailableIsas()) {
        const std::vector<float> got = InChunks(s, sequence, s.tokens, isa, 2);
        for (int64_t t = 0; t < s.tokens; ++t) {
          const bool sees = t >= kBad && (window == 0 || t - kBad < window);
          // Heads 0 .. 2 read kv head 0.
          const float* row = got.data() + t * s.a.heads * s.a.v_dim;
          EXPECT_EQ(std::isnan(row[0]), sees) << isa << " token " << t << " window " << window;
          EXPECT_FALSE(std::isnan(row[3 * s.a.v_dim])) << isa << " token " << t;
        }
      }
    }
  }
}

TEST_F(Attention, LargeScoresDoNotOverflow) {
  Problem s = Problems()[2];
  s.a.scale = 40;
  const Sequence sequence(s);
  TestNode node = Node(s, s.tokens);
  SetInputs(s, sequence, 0, s.tokens, node);
  Cache<double> cache(s, s.tokens);
  node.caches_f64 = {cache.view};
  const std::vector<double> want = node.Reference();
  for (const std::string& isa : AvailableIsas()) {
    EXPECT_LT(RelativeError(InChunks(s, sequence, s.tokens, isa, 1), want), 2e-3) << isa;
  }
}

}  // namespace
}  // namespace apr
