// See sweep.h.
#include "compare/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <random>

#include "base/error.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "compare/run_capture.h"

namespace apr {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kDefaultTokens = 48;

class SessionEngine final : public SweepEngine {
 public:
  SessionEngine(std::shared_ptr<const Model> model, const SessionOptions& options) : session_(std::move(model), options) {}
  int NewSequence() override { return session_.NewSequence(); }
  void FreeSequence(int sequence) override { session_.FreeSequence(sequence); }
  void Truncate(int sequence, int64_t length) override { session_.Truncate(sequence, length); }
  std::vector<double> Append(std::span<const Piece> pieces, TapSink* taps) override {
    std::vector<double> out;
    session_.Append(
        pieces,
        [&](size_t piece, const TensorView& rows) {
          if (piece != 0) return;
          const std::vector<double> values = ToF64(rows);
          out.insert(out.end(), values.begin(), values.end());
        },
        taps);
    return out;
  }

 private:
  Session session_;
};

bool SameBits(double a, double b) { return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b); }

// A schedule: how the tokens of one sequence arrive. Returns the logits of all of them.
using Ids = std::vector<int32_t>;
using Schedule = std::function<std::vector<double>(SweepEngine& engine, const Ids& ids, StageCapture* taps)>;

std::vector<double> AppendPart(SweepEngine& engine, int sequence, std::span<const int32_t> ids, StageCapture* taps) {
  const Piece piece{sequence, ids, static_cast<int64_t>(ids.size())};
  if (taps != nullptr) taps->set_tokens(static_cast<int64_t>(ids.size()));
  return engine.Append(std::span(&piece, 1), taps);
}

std::vector<double> InChunks(SweepEngine& engine, const Ids& ids, StageCapture* taps, size_t chunk) {
  const int sequence = engine.NewSequence();
  std::vector<double> out;
  for (size_t at = 0; at < ids.size(); at += chunk) {
    const auto part = AppendPart(engine, sequence, std::span(ids).subspan(at, std::min(chunk, ids.size() - at)), taps);
    out.insert(out.end(), part.begin(), part.end());
  }
  engine.FreeSequence(sequence);
  return out;
}

std::vector<double> OnePass(SweepEngine& engine, const Ids& ids, StageCapture* taps) { return InChunks(engine, ids, taps, ids.size()); }

// Beside other sequences of other lengths, as rows of one batch.
std::vector<double> InBatch(SweepEngine& engine, const Ids& ids, StageCapture* taps) {
  Ids shorter(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>((ids.size() + 2) / 3));
  Ids longer(ids.rbegin(), ids.rend());
  longer.insert(longer.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(ids.size() / 2));
  const int sequences[] = {engine.NewSequence(), engine.NewSequence(), engine.NewSequence()};
  const Piece pieces[] = {{sequences[0], ids, static_cast<int64_t>(ids.size())}, {sequences[1], shorter, 1}, {sequences[2], longer, 1}};
  if (taps != nullptr) taps->set_tokens(static_cast<int64_t>(ids.size()));
  std::vector<double> out = engine.Append(pieces, taps);
  for (const int sequence : sequences) engine.FreeSequence(sequence);
  return out;
}

// A cache that held other tokens first: cut back in the middle, and a freed sequence used again.
std::vector<double> OnUsedCache(SweepEngine& engine, const Ids& ids, StageCapture* taps) {
  const Ids other(ids.rbegin(), ids.rend());
  const int before = engine.NewSequence();
  AppendPart(engine, before, other, nullptr);
  engine.FreeSequence(before);
  const int sequence = engine.NewSequence();
  const size_t kept = ids.size() / 2;
  std::vector<double> out;
  if (kept > 0) out = AppendPart(engine, sequence, std::span(ids).first(kept), taps);
  AppendPart(engine, sequence, std::span(other).first(other.size() - kept), nullptr);
  engine.Truncate(sequence, static_cast<int64_t>(kept));
  const auto rest = AppendPart(engine, sequence, std::span(ids).subspan(kept), taps);
  out.insert(out.end(), rest.begin(), rest.end());
  engine.FreeSequence(sequence);
  return out;
}

class Sweep {
 public:
  explicit Sweep(const SweepRequest& request) : request_(request), engines_(request.engines ? request.engines : SessionEngines(request.model)) {
    options_ = request.options;
    options_.chunk = 0;
    ids_ = request.ids.empty() ? Random(std::min(kDefaultTokens, Room())) : request.ids;
  }

  SweepReport Run() {
    report_.model = request_.model->file().path();
    report_.executor = ExecutorName(options_.executor);
    report_.precision = options_.executor == ExecutorKind::kReference ? "f64" : PrecisionName(options_.compute.precision);
    report_.ids = ids_;
    base_engine_ = engines_(options_);
    OnePass(*base_engine_, ids_, nullptr);  // warm
    const double before = Elapsed();
    base_ = OnePass(*base_engine_, ids_, nullptr);
    base_seconds_ = Elapsed() - before;
    vocab_ = static_cast<int64_t>(base_.size() / ids_.size());
    Compare("decode", "one token at a time", ids_, base_, options_, [](SweepEngine& e, const Ids& ids, StageCapture* t) { return InChunks(e, ids, t, 1); });
    for (const size_t chunk : {size_t{2}, size_t{3}, size_t{7}, size_t{16}, size_t{33}, size_t{64}}) {
      if (chunk >= ids_.size()) break;
      Compare(fmt::format("chunks of {}", chunk), "the prompt in parts", ids_, base_, options_,
              [chunk](SweepEngine& e, const Ids& ids, StageCapture* t) { return InChunks(e, ids, t, chunk); });
    }
    Compare("batch", "beside a shorter and a longer sequence", ids_, base_, options_, InBatch);
    Compare("restored cache", "on a cache that held other tokens and was cut back", ids_, base_, options_, OnUsedCache);
    Threads();
    Contexts();
    Windows();
    LongPositions();
    Repeat();
    report_.seconds = Elapsed();
    return std::move(report_);
  }

 private:
  double Elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  bool TimeIsUp() const { return Elapsed() > request_.seconds; }
  void Begin(const std::string& regime) const {
    if (request_.cancelled && request_.cancelled()) throw Error(ErrorCode::kCancelled, "interrupted");
    if (request_.progress) request_.progress(regime);
  }
  // Tokens that the model's own tables allow.
  int64_t Room() const {
    const ModelConfig& config = request_.model->config();
    return config.max_positions > 0 ? config.max_positions : kDefaultTokens;
  }
  Ids Random(int64_t count) const {
    std::mt19937_64 random(2);
    Ids out(static_cast<size_t>(count));
    for (int32_t& id : out) id = static_cast<int32_t>(random() % static_cast<uint64_t>(request_.model->config().vocab_size));
    return out;
  }
  Ids Extended(int64_t count) const {
    Ids out = ids_;
    const Ids more = Random(count);
    if (static_cast<int64_t>(out.size()) < count) out.insert(out.end(), more.begin(), more.begin() + (count - static_cast<int64_t>(out.size())));
    out.resize(static_cast<size_t>(count));
    return out;
  }
  void Skip(const std::string& regime, const std::string& why) { report_.results.push_back({.regime = regime, .status = SweepResult::Status::kSkipped, .detail = why}); }

  void Compare(const std::string& regime, const std::string& detail, const Ids& ids, const std::vector<double>& expected,
               const SessionOptions& options, const Schedule& schedule) {
    Begin(regime);
    if (TimeIsUp()) return Skip(regime, fmt::format("the {:.0f} s for the sweep are over", request_.seconds));
    SweepResult result{.regime = regime, .detail = detail, .tokens = static_cast<int64_t>(ids.size())};
    const auto engine = engines_(options);
    const std::vector<double> logits = schedule(*engine, ids, nullptr);
    if (!Judge(expected, logits, FirstComparable(ids.size()), result)) FindStage(ids, options, schedule, result);
    report_.results.push_back(std::move(result));
  }

  // A rotation that follows the length of the sequence gives early tokens other logits once more tokens
  // come: of such a run only the tokens after the last change can be compared.
  size_t FirstComparable(size_t count) const {
    size_t first = 0;
    for (const RopeSpec& rope : request_.model->config().ropes) {
      const auto same = [&](size_t token) { return !FrequenciesChange(rope.table, static_cast<int64_t>(token) + 1, static_cast<int64_t>(count)); };
      size_t from = count - 1;
      while (from > 0 && same(from - 1)) --from;
      first = std::max(first, from);
    }
    return first;
  }

  // True if all bits agree from token `from` on.
  bool Judge(const std::vector<double>& expected, const std::vector<double>& logits, size_t from, SweepResult& result) const {
    if (expected.size() != logits.size() || expected.empty()) {
      result.status = SweepResult::Status::kDifferent;
      result.detail += fmt::format("; {} logits instead of {}", logits.size(), expected.size());
      return false;
    }
    for (size_t i = from * static_cast<size_t>(vocab_); i < expected.size(); ++i) {
      if (SameBits(expected[i], logits[i])) continue;
      if (!result.first_token) result.first_token = static_cast<int64_t>(i) / vocab_;
      const double difference = std::abs(expected[i] - logits[i]);
      if (!(difference <= result.max_abs)) result.max_abs = difference;
    }
    if (result.first_token) result.status = SweepResult::Status::kDifferent;
    return !result.first_token;
  }

  // Both ways again with every stage captured.
  void FindStage(const Ids& ids, const SessionOptions& options, const Schedule& schedule, SweepResult& result) const {
    StageCapture a(false), b(false);
    OnePass(*engines_(options_), ids, &a);
    schedule(*engines_(options), ids, &b);
    for (const Stage& stage : request_.model->graph().stages) {
      const StageCapture::Values* in_a = a.Find(stage);
      const StageCapture::Values* in_b = b.Find(stage);
      if (in_a == nullptr || in_b == nullptr || in_a->width == 0) continue;
      // Aligned at the last token: a sequence that had to start again left earlier rows twice.
      const size_t width = static_cast<size_t>(in_a->width), rows_a = in_a->data.size() / width, rows_b = in_b->data.size() / width;
      const size_t rows = std::min({rows_a, rows_b, ids.size() - FirstComparable(ids.size())});
      for (size_t i = 0; i < rows * width; ++i) {
        const double x = in_a->data[(rows_a - rows) * width + i], y = in_b->data[(rows_b - rows) * width + i];
        if (SameBits(x, y)) continue;
        result.first = SweepStage{StageLabel(stage), static_cast<int64_t>((rows_a - rows) + i / width), static_cast<int64_t>(i % width), x, y};
        return;
      }
    }
  }

  void Threads() {
    std::vector<int> counts = {1, 2, 3, 5};
    if (const int more = ThreadPool::HardwareThreads() + 1; std::ranges::find(counts, more) == counts.end()) counts.push_back(more);
    for (const int threads : counts) {
      SessionOptions options = options_;
      options.compute.threads = threads;
      Compare(fmt::format("{} thread{}", threads, threads == 1 ? "" : "s"), "the prompt in one pass", ids_, base_, options, OnePass);
    }
  }

  void Contexts() {
    const auto length = static_cast<int64_t>(ids_.size());
    for (const int64_t context : {length, length + 1, 2 * length, std::max(4 * length, Room())}) {
      SessionOptions options = options_;
      options.context = context;
      Compare(fmt::format("context of {}", context), "room for more tokens than there are", ids_, base_, options, OnePass);
    }
  }

  // As many tokens as fit the time: measured on what ran so far.
  int64_t Affordable(int64_t wanted) const {
    const double per_token = std::max(1e-7, base_seconds_ / static_cast<double>(ids_.size()));
    // One pass, then token by token (up to ten times slower), and attention grows.
    const double left = std::max(0.0, request_.seconds - Elapsed()) / 3;
    return std::min({wanted, request_.longest, static_cast<int64_t>(left / (12 * per_token))});
  }

  void LongRun(const std::string& regime, const std::string& detail, int64_t wanted) {
    const int64_t count = Affordable(wanted);
    if (count < wanted) return Skip(regime, fmt::format("{} tokens are needed, {} fit the time and --longest", wanted, std::max<int64_t>(0, count)));
    Begin(regime);
    const Ids ids = Extended(count);
    const std::vector<double> expected = OnePass(*engines_(options_), ids, nullptr);
    Compare(regime + ", decode", detail, ids, expected, options_, [](SweepEngine& e, const Ids& i, StageCapture* t) { return InChunks(e, i, t, 1); });
    Compare(regime + ", chunks of 7", detail, ids, expected, options_, [](SweepEngine& e, const Ids& i, StageCapture* t) { return InChunks(e, i, t, 7); });
  }

  void Windows() {
    std::vector<int64_t> windows;
    for (const LayerSpec& layer : request_.model->config().layers) {
      if (layer.window > 0 && std::ranges::find(windows, layer.window) == windows.end()) windows.push_back(layer.window);
    }
    if (windows.empty()) Skip("window edge", "no layer has a sliding window");
    for (const int64_t window : windows) LongRun(fmt::format("window edge {}", window), fmt::format("up to token {}", window + 2), window + 2);
  }

  void LongPositions() {
    int64_t original = 0;
    for (const RopeSpec& rope : request_.model->config().ropes) original = std::max(original, static_cast<int64_t>(rope.table.original_context));
    if (original == 0) return Skip("past the original context", "no scaled rotation");
    LongRun(fmt::format("past the original context of {}", original), fmt::format("up to token {}", original + 8), original + 8);
  }

  void Repeat() {
    Begin("repeat");
    SweepResult result{.regime = "repeat", .tokens = static_cast<int64_t>(ids_.size())};
    int64_t done = 0;
    for (; done < request_.repeats && !TimeIsUp(); ++done) {
      if (request_.cancelled && request_.cancelled()) throw Error(ErrorCode::kCancelled, "interrupted");
      if (!Judge(base_, OnePass(*base_engine_, ids_, nullptr), 0, result)) break;
    }
    const bool bad = result.status == SweepResult::Status::kDifferent;
    result.detail = bad ? fmt::format("run {} of {} gives other bits", done + 1, request_.repeats)
                        : fmt::format("{} of {} runs{}", done, request_.repeats, done < request_.repeats ? ", bounded by time" : "");
    if (!bad && done == 0) result.status = SweepResult::Status::kSkipped;
    report_.results.push_back(std::move(result));
  }

  const SweepRequest& request_;
  SweepEngineFactory engines_;
  SessionOptions options_;
  Ids ids_;
  SweepReport report_;
  std::unique_ptr<SweepEngine> base_engine_;
  std::vector<double> base_;
  int64_t vocab_ = 0;
  double base_seconds_ = 0;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

SweepEngineFactory SessionEngines(std::shared_ptr<const Model> model) {
  return [model = std::move(model)](const SessionOptions& options) { return std::make_unique<SessionEngine>(model, options); };
}

const char* SweepStatusName(SweepResult::Status status) {
  constexpr const char* kNames[] = {"same", "different", "skipped"};
  return kNames[static_cast<size_t>(status)];
}

int64_t SweepReport::different() const {
  return std::ranges::count_if(results, [](const SweepResult& r) { return r.status == SweepResult::Status::kDifferent; });
}
int64_t SweepReport::compared() const {
  return std::ranges::count_if(results, [](const SweepResult& r) { return r.status != SweepResult::Status::kSkipped; });
}

Json SweepReport::ToJson() const {
  Json rows = Json::array();
  for (const SweepResult& r : results) {
    Json first = nullptr;
    if (r.first) first = {{"stage", r.first->name}, {"token", r.first->token}, {"element", r.first->element}, {"a", JsonNumber(r.first->a)}, {"b", JsonNumber(r.first->b)}};
    rows.push_back({{"regime", r.regime}, {"status", SweepStatusName(r.status)}, {"detail", r.detail}, {"tokens", r.tokens},
                    {"first_token", r.first_token ? Json(*r.first_token) : Json(nullptr)}, {"max_abs_diff", JsonNumber(r.max_abs)}, {"first_differing_stage", first}});
  }
  return {{"schema", "apr-sweep-v1"}, {"model", model}, {"executor", executor}, {"precision", precision}, {"ids", ids},
          {"compared", compared()}, {"different", different()}, {"passed", different() == 0 && compared() > 0}, {"results", rows}, {"seconds", seconds}};
}

SweepReport RunSweep(const SweepRequest& request) { return Sweep(request).Run(); }

}  // namespace apr
