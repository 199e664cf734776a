// Sweep: one model, one input, every way in which its tokens may arrive: all must give the same bits
// (docs/parity.md). A way that does not is shown with the first stage and token that differ.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "generate/session.h"
#include "model/model.h"

namespace apr {

// What runs the tokens. The usual one is a Session; tests put faulty ones in its place.
class SweepEngine {
 public:
  virtual ~SweepEngine() = default;
  virtual int NewSequence() = 0;
  virtual void FreeSequence(int sequence) = 0;
  virtual void Truncate(int sequence, int64_t length) = 0;
  // One pass. Logits of every token of pieces[0], as f64, [n, V].
  virtual std::vector<double> Append(std::span<const Piece> pieces, TapSink* taps) = 0;
};
using SweepEngineFactory = std::function<std::unique_ptr<SweepEngine>(const SessionOptions& options)>;
SweepEngineFactory SessionEngines(std::shared_ptr<const Model> model);

struct SweepStage {
  std::string name;        // "layer-3/q_post_rope"
  int64_t token = 0;       // of the sequence
  int64_t element = 0;     // in its row
  double a = 0, b = 0;     // one pass, this regime
};

struct SweepResult {
  enum class Status { kSame, kDifferent, kSkipped };
  std::string regime;      // "decode", "chunks of 3", "repeat" ...
  Status status = Status::kSame;
  std::string detail;      // what was done, or why not
  int64_t tokens = 0;      // compared
  std::optional<int64_t> first_token;  // whose logits differ first
  double max_abs = 0;
  std::optional<SweepStage> first;     // kDifferent: the first stage in causal order; none: only logits differ
};
const char* SweepStatusName(SweepResult::Status status);  // "same", "different", "skipped"

struct SweepReport {
  std::string model, executor, precision;
  std::vector<int32_t> ids;
  std::vector<SweepResult> results;
  double seconds = 0;

  int64_t different() const;
  int64_t compared() const;  // regimes that were not skipped
  Json ToJson() const;
};

struct SweepRequest {
  std::shared_ptr<const Model> model;
  SessionOptions options;           // executor, precision, threads
  std::vector<int32_t> ids;         // empty: 48 fixed pseudo-random tokens
  int64_t repeats = 1000;
  double seconds = 60;              // for all regimes; what does not fit is said
  int64_t longest = 4096;           // tokens of the long regimes at most
  SweepEngineFactory engines;       // null: SessionEngines(model)
  std::function<void(const std::string& regime)> progress;
  std::function<bool()> cancelled;
};
// Throws Error(kCancelled), and what running the model throws.
SweepReport RunSweep(const SweepRequest& request);

}  // namespace apr
