// See generate.h.
#include "generate/generate.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"

namespace apr {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double Rate(int64_t tokens, double seconds) {
  return tokens > 0 && seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

// Appends; false if cancelled.
bool Run(Session& session, const GenerateRequest& request, std::span<const int32_t> ids, Tensor& logits) {
  try {
    logits = session.Append(request.sequence, ids, 1, nullptr, request.hooks);
    return true;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCancelled) throw;
    return false;
  }
}

}  // namespace

const char* StopReasonName(StopReason reason) {
  switch (reason) {
    case StopReason::kLength: return "length";
    case StopReason::kStopId: return "eos";
    case StopReason::kContext: return "context";
    case StopReason::kCaller: return "stop";
    case StopReason::kCancelled: return "interrupted";
  }
  return "";
}

double GenerateResult::DecodeRate() const { return Rate(static_cast<int64_t>(ids.size()) - 1, decode_seconds); }
double GenerateResult::PromptRate() const { return Rate(prompt_tokens, prompt_seconds); }

GenerateResult Generate(Session& session, Sampler& sampler, const GenerateRequest& request) {
  GenerateResult result;
  if (request.prompt.empty()) throw Error(ErrorCode::kUsage, "the prompt is empty: no token to start from");
  const auto start = Clock::now();
  Tensor logits;
  if (!Run(session, request, request.prompt, logits)) {
    result.reason = StopReason::kCancelled;
    return result;
  }
  result.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  result.prompt_seconds = Since(start);
  Clock::time_point first = start;
  while (static_cast<int64_t>(result.ids.size()) < request.max_tokens) {
    const int32_t id = sampler.Sample(logits.view(), session.ids(request.sequence));
    result.ids.push_back(id);
    if (result.ids.size() == 1) {
      first = Clock::now();
      result.first_token_seconds = Since(start);
    }
    result.decode_seconds = Since(first);
    const bool wants_more = !request.on_token || request.on_token(id);
    if (std::ranges::find(request.stop_ids, id) != request.stop_ids.end()) result.reason = StopReason::kStopId;
    else if (!wants_more) result.reason = StopReason::kCaller;
    else if (static_cast<int64_t>(result.ids.size()) == request.max_tokens) result.reason = StopReason::kLength;
    else if (session.context() > 0 && static_cast<int64_t>(session.ids(request.sequence).size()) >= session.context()) result.reason = StopReason::kContext;
    else if (!Run(session, request, std::span(&id, 1), logits)) result.reason = StopReason::kCancelled;
    else continue;
    break;
  }
  return result;
}

}  // namespace apr
