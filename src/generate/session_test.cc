// Same input, same bits: threads, chunks, taps, batches, and tokens one by one change no logit. Each
// comparison is shown to fail on a graph with an op that breaks exactly that promise.
#include "generate/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "graph/op.h"
#include "op/context.h"
#include "op/norm/norm.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

std::string ModelPath(const std::string& name) { return std::string(APR_SOURCE_DIR "/testdata/model/") + name; }

std::vector<int32_t> MakeIds(int64_t count, int64_t vocabulary, uint32_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525U + 1013904223U;
    ids.push_back(static_cast<int32_t>((seed >> 8) % static_cast<uint32_t>(vocabulary)));
  }
  return ids;
}

std::vector<std::byte> BytesOf(const Tensor& tensor) { return {tensor.view().bytes.begin(), tensor.view().bytes.end()}; }

bool g_tap_was_called = false;

// Copies everything it is offered.
class EverySink final : public TapSink {
 public:
  bool Wants(const Stage&) const override { return true; }
  void Take(const Stage& stage, const TensorView& data) override {
    g_tap_was_called = true;
    taken_ += data.bytes.size();
    last_ = stage.Path();
  }
  size_t taken() const { return taken_; }
  const std::string& last() const { return last_; }

 private:
  size_t taken_ = 0;
  std::string last_;
};

// What a faulty op lets into its result.
enum class Leak { kThreads, kTokensOfPass, kSequencesOfPass, kSingleToken, kTap };

// An op that does what `inner` does and then adds a last bit depending on what must not matter.
class LeakyOp final : public Op {
 public:
  LeakyOp(const Op& inner, Leak leak) : inner_(inner), leak_(leak) {}
  const char* name() const override { return inner_.name(); }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override { return inner_.Infer(node, graph); }
  void Reference(const OpContext<double>& context) const override {
    inner_.Reference(context);
    Disturb(context);
  }
  std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext& context) const override {
    return inner_.PrepareCpu(context);
  }
  void Cpu(const OpContext<float>& context) const override {
    inner_.Cpu(context);
    Disturb(context);
  }

 private:
  template <typename Real>
  void Disturb(const OpContext<Real>& context) const {
    if (!Leaks(context)) return;
    for (Real& x : context.outputs[0]) x = std::nextafter(x, std::numeric_limits<Real>::infinity());
  }
  template <typename Real>
  bool Leaks(const OpContext<Real>& context) const {
    switch (leak_) {
      case Leak::kThreads: return context.pool.threads() > 1;
      case Leak::kTokensOfPass: return context.batch.tokens() < 100;
      case Leak::kSequencesOfPass: return context.batch.sequences.size() > 1;
      case Leak::kSingleToken: return context.batch.tokens() == 1;
      case Leak::kTap: return g_tap_was_called;
    }
    return false;
  }
  const Op& inner_;
  Leak leak_;
};

// The model's graph with its last norm replaced.
std::shared_ptr<const BoundGraph> WithLeak(const Model& model, const LeakyOp& op) {
  auto graph = std::make_shared<BoundGraph>(*model.bound());
  const auto at = std::ranges::find_if(graph->graph.nodes.rbegin(), graph->graph.nodes.rend(),
                                       [](const Node& node) { return node.op == &NormOp(); });
  if (at == graph->graph.nodes.rend()) throw Error(ErrorCode::kInternal, "no norm in the graph");
  at->op = &op;
  return graph;
}

struct Case {
  std::shared_ptr<const Model> model;
  SessionOptions options;
  std::shared_ptr<const BoundGraph> graph;  // null: the model's own
  std::vector<int32_t> ids;
};

Tensor Whole(const Case& c, int threads, int64_t chunk, TapSink* taps = nullptr) {
  SessionOptions options = c.options;
  options.compute.threads = threads;
  options.chunk = chunk;
  Session session(c.model, options, c.graph);
  return session.Append(session.NewSequence(), c.ids, static_cast<int64_t>(c.ids.size()), taps);
}

std::vector<std::byte> Base(const Case& c) { return BytesOf(Whole(c, 1, 0)); }

bool ThreadsAgree(const Case& c) { return BytesOf(Whole(c, 2, 0)) == Base(c); }

bool ChunksAgree(const Case& c) {
  const auto base = Base(c);
  return std::ranges::all_of(std::vector<int64_t>{1, 7, 64}, [&](int64_t chunk) { return BytesOf(Whole(c, 1, chunk)) == base; });
}

bool TapsAgree(const Case& c) {
  g_tap_was_called = false;
  const auto base = Base(c);
  EverySink sink;
  const bool same = BytesOf(Whole(c, 1, 0, &sink)) == base;
  EXPECT_GT(sink.taken(), base.size());
  EXPECT_EQ(sink.last(), "lm_head");
  g_tap_was_called = false;
  return same;
}

// Between two other sequences of other lengths, in chunks of 10.
bool BatchAgrees(const Case& c) {
  SessionOptions options = c.options;
  options.chunk = 10;
  Session session(c.model, options, c.graph);
  const int64_t vocabulary = c.model->config().vocab_size;
  const auto before = MakeIds(static_cast<int64_t>(c.ids.size()) + 9, vocabulary, 5);
  const auto after = MakeIds(31, vocabulary, 6);
  const Piece pieces[] = {{session.NewSequence(), before, 1},
                          {session.NewSequence(), c.ids, static_cast<int64_t>(c.ids.size())},
                          {session.NewSequence(), after, 31}};
  std::vector<std::byte> rows;
  session.Append(pieces, [&](size_t piece, const TensorView& view) {
    if (piece == 1) rows.insert(rows.end(), view.bytes.begin(), view.bytes.end());
  });
  return rows == Base(c);
}

bool SingleTokensAgree(const Case& c) {
  Session session(c.model, c.options, c.graph);
  const int sequence = session.NewSequence();
  std::vector<std::byte> rows;
  for (const int32_t& id : c.ids) {
    const auto row = BytesOf(session.Append(sequence, std::span(&id, 1)));
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows == Base(c);
}

struct Promise {
  const char* name;
  bool (*holds)(const Case&);
  Leak leak;
};
const Promise kPromises[] = {
    {"threads", ThreadsAgree, Leak::kThreads},
    {"chunks", ChunksAgree, Leak::kTokensOfPass},
    {"taps", TapsAgree, Leak::kTap},
    {"batch", BatchAgrees, Leak::kSequencesOfPass},
    {"single tokens", SingleTokensAgree, Leak::kSingleToken},
};

class SameBits : public testing::TestWithParam<std::string> {
 protected:
  std::vector<Case> Cases(int64_t tokens) {
    std::vector<Case> cases;
    const auto model = Model::Load(ModelPath(GetParam()));
    for (const auto& [kind, precision] : {std::pair{ExecutorKind::kCpu, Precision::kExact},
                                          std::pair{ExecutorKind::kCpu, Precision::kFast},
                                          std::pair{ExecutorKind::kReference, Precision::kExact}}) {
      SessionOptions options{.executor = kind, .compute = {.threads = 1, .precision = precision}, .chunk = 0};
      cases.push_back({model, options, nullptr, MakeIds(tokens, model->config().vocab_size, 1)});
    }
    return cases;
  }
};

TEST_P(SameBits, WhateverTheSchedule) {
  for (const Case& c : Cases(100)) {
    for (const Promise& promise : kPromises) {
      EXPECT_TRUE(promise.holds(c)) << promise.name << ", " << ExecutorName(c.options.executor);
    }
  }
}

TEST_P(SameBits, EachPromiseIsSeenToBeBroken) {
  for (Case& c : Cases(100)) {
    for (const Promise& promise : kPromises) {
      const LeakyOp leaky(NormOp(), promise.leak);
      c.graph = WithLeak(*c.model, leaky);
      EXPECT_FALSE(promise.holds(c)) << promise.name << ", " << ExecutorName(c.options.executor);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SameBits, testing::Values("llama", "mistral", "qwen2", "qwen3", "gemma3"),
                         [](const auto& param_info) { return param_info.param; });

// A copy of a model folder whose config.json was changed.
class ChangedModel {
 public:
  ChangedModel(const std::string& name, const std::string& test, const Json& patch)
      : folder_(fs::path(testing::TempDir()) / ("apr_session_" + test)) {
    fs::remove_all(folder_);
    fs::copy(ModelPath(name), folder_);
    const std::string path = (folder_ / "config.json").string();
    Json config = ParseJson(AsText(MappedFile::Open(path)->bytes()), path);
    config.merge_patch(patch);
    fs::remove(path);
    std::ofstream(path) << DumpJson(config);
  }
  ~ChangedModel() { fs::remove_all(folder_); }
  std::string path() const { return folder_.string(); }

 private:
  fs::path folder_;
};

// Dynamic NTK scaling: the base follows the sequence's length, so cached keys go stale.
TEST(Session, StaleKeysAreRunAgain) {
  const ChangedModel changed("llama", "dynamic",
                             {{"max_position_embeddings", 16}, {"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}, {"low_freq_factor", nullptr}, {"high_freq_factor", nullptr}, {"original_max_position_embeddings", nullptr}}}});
  const auto model = Model::Load(changed.path());
  const SessionOptions options{.compute = {.threads = 1, .precision = Precision::kExact}, .chunk = 7};
  const auto ids = MakeIds(40, model->config().vocab_size, 3);
  Session one(model, options);
  const auto at_once = BytesOf(one.Append(one.NewSequence(), ids));
  Session two(model, options);
  const int sequence = two.NewSequence();
  std::vector<std::byte> last;
  for (const int32_t& id : ids) last = BytesOf(two.Append(sequence, std::span(&id, 1)));
  EXPECT_EQ(last, at_once);
  EXPECT_EQ(two.ids(sequence), ids);

  // Without running them again the result would be another one: this is not a vacuous comparison.
  Session three(model, options);
  const int raw = three.executor().NewSequence();
  Tensor wrong;
  for (const int32_t& id : ids) {
    const Chunk chunk{raw, std::span(&id, 1), 1, 0};
    wrong = three.executor().Forward(std::span(&chunk, 1));
  }
  EXPECT_NE(BytesOf(wrong), at_once);
}

TEST(Session, FullContextIsAnErrorThatChangesNothing) {
  const auto model = Model::Load(ModelPath("llama"));
  Session session(model, {.compute = {.threads = 1}, .context = 10});
  const int sequence = session.NewSequence();
  const auto ids = MakeIds(11, model->config().vocab_size, 2);
  session.Append(sequence, std::span(ids).first(8));
  try {
    session.Append(sequence, std::span(ids).last(3));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInference);
    EXPECT_NE(error.message().find("context of 10 tokens"), std::string::npos) << error.message();
  }
  EXPECT_EQ(session.ids(sequence).size(), 8U);
  session.Append(sequence, std::span(ids).last(2));
  EXPECT_EQ(session.ids(sequence).size(), 10U);
}

TEST(Session, ABadIdInALaterPassLeavesTheSequenceAsItWas) {
  const auto model = Model::Load(ModelPath("llama"));
  Session session(model, {.compute = {.threads = 1, .precision = Precision::kExact}, .chunk = 2});
  const int sequence = session.NewSequence();
  const std::vector<int32_t> good = {1, 2, 3};
  session.Append(sequence, good);
  const std::vector<int32_t> bad = {4, 5, 6, 1 << 20};
  EXPECT_THROW(session.Append(sequence, bad), Error);
  EXPECT_EQ(session.ids(sequence), good);
  EXPECT_EQ(session.executor().Length(sequence), 3);
  const std::vector<int32_t> all = {1, 2, 3, 4};
  Session fresh(model, {.compute = {.threads = 1, .precision = Precision::kExact}});
  EXPECT_EQ(BytesOf(session.Append(sequence, std::span(all).last(1))), BytesOf(fresh.Append(fresh.NewSequence(), all)));
}

TEST(Session, CancellingEndsBetweenPasses) {
  const auto model = Model::Load(ModelPath("llama"));
  Session session(model, {.compute = {.threads = 1}, .chunk = 2});
  const int sequence = session.NewSequence();
  int64_t done = 0;
  const RunHooks hooks{.progress = [&](int64_t n) { done += n; }, .cancelled = [&] { return done >= 4; }};
  const auto ids = MakeIds(10, model->config().vocab_size, 2);
  try {
    session.Append(sequence, ids, 1, nullptr, hooks);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  EXPECT_EQ(done, 4);
  EXPECT_TRUE(session.ids(sequence).empty());
}

}  // namespace
}  // namespace apr
