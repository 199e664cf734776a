// Generating tokens: prompt in, tokens out one by one, until a stop rule holds.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "generate/sampler.h"
#include "generate/session.h"

namespace apr {

enum class StopReason {
  kLength,     // max_tokens were made
  kStopId,     // the model ended its text; the stop token is the last one of `ids`
  kContext,    // the context is full
  kCaller,     // on_token said so
  kCancelled,
};
const char* StopReasonName(StopReason reason);  // "length", "eos", "context", "stop", "interrupted"

struct GenerateRequest {
  int sequence = 0;                 // of the session; may hold tokens already
  std::span<const int32_t> prompt;  // appended first; at least one token
  int64_t max_tokens = 0;
  std::span<const int32_t> stop_ids;
  // Called with every new token; false ends the text.
  std::function<bool(int32_t id)> on_token;
  RunHooks hooks;
};

struct GenerateResult {
  std::vector<int32_t> ids;  // new tokens
  StopReason reason = StopReason::kLength;
  int64_t prompt_tokens = 0;
  double prompt_seconds = 0;       // until the prompt's logits were there
  double first_token_seconds = 0;  // from the call to the first token; 0 if there is none
  double decode_seconds = 0;       // from the first token to the last

  // Tokens after the first one per second; 0 when there is none.
  double DecodeRate() const;
  double PromptRate() const;
};

// Throws what Session::Append throws for the prompt; being cancelled is a reason, not an error, and
// leaves the sequence with the tokens that ran.
GenerateResult Generate(Session& session, Sampler& sampler, const GenerateRequest& request);

}  // namespace apr
