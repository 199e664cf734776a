// Every architecture in every regime: a prompt at once, token by token, in chunks, beside other sequences, in memory
// that was larger, from a restored prompt cache, and with each type of cache: the same bits. At the edges of
// windows, and past the context that a rope scaling was made from, the f64 reference must agree as well.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/json.h"
#include "generate/prompt_cache.h"
#include "generate/session.h"
#include "model/architecture.h"
#include "op/rope/rope.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRoots[] = {APR_SOURCE_DIR "/testdata/model", APR_SOURCE_DIR "/../shared/oracle/model"};
// Its one setting that this project does not compute is refused by name (src/model/oracle_test.cc).
constexpr const char* kRefusedByName = "stablelm-parallel";

struct Subject {
  std::string path, name;
};
void PrintTo(const Subject& each, std::ostream* out) { *out << each.name; }

std::vector<Subject> Subjects() {
  std::vector<Subject> out;
  for (const char* root : kRoots) {
    if (!fs::is_directory(root)) continue;
    for (const auto& entry : fs::directory_iterator(root)) {
      if (!fs::exists(entry.path() / "config.json") || entry.path().filename() == kRefusedByName) continue;
      std::ifstream in(entry.path() / "config.json");
      if (FindByModelType(Json::parse(in).at("model_type").get<std::string>()) == nullptr) continue;
      std::string name = (root == kRoots[0] ? "own_" : "shared_") + entry.path().filename().string();
      std::ranges::replace_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
      out.push_back({entry.path().string(), name});
    }
  }
  std::ranges::sort(out, {}, &Subject::name);
  return out;
}

std::vector<int32_t> MakeIds(int64_t count, int64_t vocabulary, uint32_t seed = 9) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525U + 1013904223U;
    ids.push_back(static_cast<int32_t>((seed >> 8) % static_cast<uint32_t>(vocabulary)));
  }
  return ids;
}

std::vector<std::byte> BytesOf(const Tensor& tensor) { return {tensor.view().bytes.begin(), tensor.view().bytes.end()}; }

class Regimes : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    model_ = Model::Load(GetParam().path);
    file_ = testing::TempDir() + "apr_regimes_" + GetParam().name + ".aprk";
  }
  void TearDown() override { fs::remove(file_); }

  SessionOptions Options(DType cache = DType::kF32) const {
    return {.compute = {.threads = 1, .precision = Precision::kExact, .cache_type = cache}, .chunk = 0};
  }

  // Lengths at which something changes: window edges, and behind the context of a rope scaling. Never more
  // than a table of learned positions holds.
  std::set<int64_t> Lengths() const {
    std::set<int64_t> out = {37};
    const ModelConfig& config = model_->config();
    const int64_t most = config.learned_positions ? config.max_positions : 200;
    for (const LayerSpec& layer : config.layers) {
      for (const int64_t n : {layer.window - 1, layer.window, layer.window + 1}) {
        if (layer.window > 0 && n > 0) out.insert(n);
      }
    }
    for (const RopeSpec& rope : config.ropes) {
      const auto original = static_cast<int64_t>(rope.table.original_context);
      if (original > 1 && rope.table.scaling != "none") out.insert({original - 1, original, original + 1, original + 20});
    }
    std::erase_if(out, [&](int64_t n) { return n > most; });
    return out;
  }

  std::vector<std::byte> AtOnce(std::span<const int32_t> ids, const SessionOptions& options) const {
    Session session(model_, options);
    return BytesOf(session.Append(session.NewSequence(), ids));
  }
  std::vector<std::byte> InSteps(std::span<const int32_t> ids, size_t step, const SessionOptions& options) const {
    Session session(model_, options);
    const int sequence = session.NewSequence();
    Tensor last;
    for (size_t at = 0; at < ids.size(); at += step) last = session.Append(sequence, ids.subspan(at, std::min(step, ids.size() - at)));
    return BytesOf(last);
  }
  std::vector<std::byte> InChunks(std::span<const int32_t> ids, int64_t chunk, SessionOptions options) const {
    options.chunk = chunk;
    return AtOnce(ids, options);
  }
  std::vector<std::byte> Beside(std::span<const int32_t> ids, const SessionOptions& options) const {
    Session session(model_, options);
    const auto other = MakeIds(static_cast<int64_t>(ids.size()) + 5, model_->config().vocab_size, 4);
    const auto longer = std::span(other).first(std::min(other.size(), ids.size()));
    const Piece pieces[] = {{session.NewSequence(), longer, 1}, {session.NewSequence(), ids, 1}, {session.NewSequence(), longer.first(1), 1}};
    std::vector<std::byte> out;
    session.Append(pieces, [&](size_t piece, const TensorView& rows) {
      if (piece == 1) out.assign(rows.bytes.begin(), rows.bytes.end());
    });
    return out;
  }
  // In memory that a longer text filled before.
  std::vector<std::byte> InLargerMemory(std::span<const int32_t> ids, const SessionOptions& options) const {
    Session session(model_, options);
    session.set_context(100000);
    const int sequence = session.NewSequence();
    const auto other = MakeIds(static_cast<int64_t>(ids.size()), model_->config().vocab_size, 3);
    session.Append(sequence, other);
    session.Truncate(sequence, 0);
    return BytesOf(session.Append(sequence, ids));
  }
  std::vector<std::byte> Restored(std::span<const int32_t> ids, const SessionOptions& options) const {
    Session first(model_, options);
    const int sequence = first.NewSequence();
    first.Append(sequence, ids.first(ids.size() / 2));
    SavePromptCache(first, sequence, CacheDigest(first), file_, Overwrite::kAllow);
    Session second(model_, options);
    const int again = second.NewSequence();
    const int64_t held = RestorePromptCache(second, again, CacheDigest(second), file_, ids);
    EXPECT_EQ(held, static_cast<int64_t>(ids.size() / 2));
    return BytesOf(second.Append(again, ids.subspan(static_cast<size_t>(held))));
  }

  void ExpectAllEqual(std::span<const int32_t> ids, const SessionOptions& options, const std::string& what) {
    const auto base = AtOnce(ids, options);
    EXPECT_EQ(InSteps(ids, 1, options), base) << what << ", token by token";
    EXPECT_EQ(InSteps(ids, 11, options), base) << what << ", 11 at a time";
    EXPECT_EQ(InChunks(ids, 7, options), base) << what << ", chunks of 7";
    EXPECT_EQ(Beside(ids, options), base) << what << ", in a batch";
    EXPECT_EQ(InLargerMemory(ids, options), base) << what << ", in larger memory";
    EXPECT_EQ(Restored(ids, options), base) << what << ", from a restored cache";
  }

  std::shared_ptr<const Model> model_;
  std::string file_;
};

TEST_P(Regimes, SameBits) {
  for (const int64_t length : Lengths()) {
    if (length < 2) continue;
    ExpectAllEqual(MakeIds(length, model_->config().vocab_size), Options(), std::to_string(length) + " tokens");
  }
}

TEST_P(Regimes, SameBitsWithNarrowerCaches) {
  const auto ids = MakeIds(23, model_->config().vocab_size);
  const auto full = AtOnce(ids, Options());
  for (const DType type : {DType::kF16, DType::kQ8_0}) {
    ExpectAllEqual(ids, Options(type), CacheTypeName(type));
    EXPECT_NE(AtOnce(ids, Options(type)), full) << CacheTypeName(type) << " changes nothing: is it in use?";
  }
}

// sum (a - b)^2 / sum b^2
double Nmse(const Tensor& a, const Tensor& b) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < b.f64().size(); ++i) {
    const double gap = a.f32()[i] - b.f64()[i];
    error += gap * gap;
    norm += b.f64()[i] * b.f64()[i];
  }
  return error / norm;
}

TEST_P(Regimes, TheReferenceAgreesAtEveryEdge) {
  SessionOptions reference = Options();
  reference.executor = ExecutorKind::kReference;
  const int64_t longest = *Lengths().rbegin();
  const auto ids = MakeIds(longest, model_->config().vocab_size);
  for (const auto& [type, most] : {std::pair{DType::kF32, 1e-9}, std::pair{DType::kF16, 1e-3}, std::pair{DType::kQ8_0, 1e-1}}) {
    Session cpu(model_, Options(type));
    Session f64(model_, reference);
    const Tensor a = cpu.Append(cpu.NewSequence(), ids, longest);
    const Tensor b = f64.Append(f64.NewSequence(), ids, longest);
    EXPECT_LT(Nmse(a, b), most) << CacheTypeName(type);
  }
}

// What the comparison with a restored cache sees: one changed value of it.
TEST_P(Regimes, AChangedCacheIsSeen) {
  const auto ids = MakeIds(20, model_->config().vocab_size);
  Session session(model_, Options());
  const int sequence = session.NewSequence();
  session.Append(sequence, std::span(ids).first(19));
  std::vector<std::byte> rows;
  session.executor().SaveCache(sequence, [&](Bytes part) { rows.insert(rows.end(), part.begin(), part.end()); });
  const auto last = [&] {
    Session other(model_, Options());
    const int again = other.NewSequence();
    other.Restore(again, std::span(ids).first(19), session.executor().RopeLength(sequence), rows);
    return BytesOf(other.Append(again, std::span(ids).last(1)));
  };
  const auto whole = last();
  EXPECT_EQ(whole, AtOnce(ids, Options()));
  StoreLe(rows.data() + rows.size() - 4, LoadLe<float>(rows.data() + rows.size() - 4) + 1.0F);
  EXPECT_NE(last(), whole);
}

INSTANTIATE_TEST_SUITE_P(All, Regimes, testing::ValuesIn(Subjects()), [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace apr
