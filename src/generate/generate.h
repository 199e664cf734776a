// Generating tokens: prompt in, tokens out one by one, until a stop rule holds; one sequence, or several at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "generate/constraint.h"
#include "generate/sampler.h"
#include "generate/session.h"

namespace apr {

enum class StopReason {
  kLength,     // max_tokens were made
  kStopId,     // the model ended its text; the stop token is the last one of `ids`
  kContext,    // the context is full
  kCaller,     // on_token said so
  kGrammar,    // the text that the grammar describes is complete
  kCancelled,
};
const char* StopReasonName(StopReason reason);  // "length", "eos", "context", "stop", "grammar", "interrupted"

struct GenerateRequest {
  int sequence = 0;                 // of the session; may hold tokens already
  std::span<const int32_t> prompt;  // appended first; at least one token
  int64_t max_tokens = 0;
  std::span<const int32_t> stop_ids;
  Constraint* constraint = nullptr;  // null: none. Given the stop ids too; its state moves on
  // A full context: -1 ends the text; otherwise the first `slide_keep` tokens and the newer half of the others
  // stay, and run again as a text of their own.
  int64_t slide_keep = -1;
  // Called with every new token; false ends the text.
  std::function<bool(int32_t id)> on_token;
  std::function<void(int64_t dropped)> on_slide;
  RunHooks hooks;
};

struct GenerateResult {
  std::vector<int32_t> ids;  // new tokens
  StopReason reason = StopReason::kLength;
  int64_t prompt_tokens = 0;
  int64_t dropped_tokens = 0;      // that slid out of the context
  double prompt_seconds = 0;       // until the prompt's logits were there
  double first_token_seconds = 0;  // from the call to the first token; 0 if there is none
  double decode_seconds = 0;       // from the first token to the last
  // Tokens after the first one per second; 0 when there is none.
  double DecodeRate() const;
  double PromptRate() const;
};

// One text in the making. Whoever drives it appends `pending` to the sequence and hands over the logits of its last
// token, until it is done.
class Generation {
 public:
  // Borrows all that the request names. Throws kUsage for an empty prompt.
  Generation(Session& session, Sampler& sampler, GenerateRequest request);

  bool done() const { return done_; }
  int sequence() const { return request_.sequence; }
  std::span<const int32_t> pending() const { return pending_; }
  const RunHooks& hooks() const { return request_.hooks; }
  void Take(const TensorView& logits);
  void Cancel();
  const GenerateResult& result() const { return result_; }

 private:
  using Clock = std::chrono::steady_clock;
  bool Slide(int32_t id);
  void Finish(StopReason reason);

  Session& session_;
  Sampler& sampler_;
  GenerateRequest request_;
  std::vector<int32_t> pending_;
  GenerateResult result_;
  Clock::time_point start_, first_;
  bool done_ = false;
};

// Drives one text to its end. Throws what Session::Append throws for the prompt; being cancelled is a reason, not an error, and
// leaves the sequence with the tokens that ran.
void RunToEnd(Session& session, Generation& generation);
GenerateResult Generate(Session& session, Sampler& sampler, const GenerateRequest& request);

// Up to `parallel` texts in every pass. `next` gives one more, null when there is none; `finished` receives each
// when it is done or failed, in whatever order that happens. No text depends on those beside it.
void GenerateTogether(Session& session, size_t parallel, const std::function<Generation*()>& next,
                      const std::function<void(Generation&, const std::optional<Error>&)>& finished, const RunHooks& hooks);

}  // namespace apr
