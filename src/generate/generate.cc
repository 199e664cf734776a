// See generate.h.
#include "generate/generate.h"

#include <algorithm>
#include <utility>

namespace apr {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double Rate(int64_t tokens, double seconds) {
  return tokens > 0 && seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

}  // namespace

const char* StopReasonName(StopReason reason) {
  switch (reason) {
    case StopReason::kLength: return "length";
    case StopReason::kStopId: return "eos";
    case StopReason::kContext: return "context";
    case StopReason::kCaller: return "stop";
    case StopReason::kGrammar: return "grammar";
    case StopReason::kCancelled: return "interrupted";
  }
  return "";
}

double GenerateResult::DecodeRate() const { return Rate(static_cast<int64_t>(ids.size()) - 1, decode_seconds); }
double GenerateResult::PromptRate() const { return Rate(prompt_tokens, prompt_seconds); }

Generation::Generation(Session& session, Sampler& sampler, GenerateRequest request)
    : session_(session),
      sampler_(sampler),
      request_(std::move(request)),
      pending_(request_.prompt.begin(), request_.prompt.end()),
      start_(Clock::now()),
      first_(start_) {
  if (pending_.empty()) throw Error(ErrorCode::kUsage, "the prompt is empty: no token to start from");
}

void Generation::Finish(StopReason reason) {
  result_.reason = reason;
  done_ = true;
}

void Generation::Cancel() { Finish(StopReason::kCancelled); }

// Makes room for `id` by forgetting the older half of what is not kept; false: there is nothing to forget.
bool Generation::Slide(int32_t id) {
  const std::vector<int32_t>& held = session_.ids(request_.sequence);
  const auto have = static_cast<int64_t>(held.size());
  const int64_t keep = std::min(request_.slide_keep, have);
  const int64_t dropped = (have - keep + 1) / 2;
  if (dropped < 1) return false;
  pending_.assign(held.begin(), held.begin() + keep);
  pending_.insert(pending_.end(), held.begin() + keep + dropped, held.end());
  pending_.push_back(id);
  session_.Truncate(request_.sequence, 0);
  result_.dropped_tokens += dropped;
  if (request_.on_slide) request_.on_slide(dropped);
  return true;
}

void Generation::Take(const TensorView& logits) {
  if (result_.prompt_tokens == 0) {
    result_.prompt_tokens = static_cast<int64_t>(request_.prompt.size());
    result_.prompt_seconds = Since(start_);
  }
  if (request_.max_tokens <= 0) return Finish(StopReason::kLength);
  Constraint* constraint = request_.constraint;
  if (constraint != nullptr && constraint->must_end()) return Finish(StopReason::kGrammar);
  const int32_t id = sampler_.Sample(logits, session_.ids(request_.sequence), constraint != nullptr ? &constraint->Allowed() : nullptr);
  result_.ids.push_back(id);
  if (result_.ids.size() == 1) {
    first_ = Clock::now();
    result_.first_token_seconds = Since(start_);
  }
  result_.decode_seconds = Since(first_);
  const bool wants_more = !request_.on_token || request_.on_token(id);
  if (std::ranges::find(request_.stop_ids, id) != request_.stop_ids.end()) return Finish(StopReason::kStopId);
  if (constraint != nullptr) constraint->Accept(id);
  if (!wants_more) return Finish(StopReason::kCaller);
  if (constraint != nullptr && constraint->must_end()) return Finish(StopReason::kGrammar);
  if (static_cast<int64_t>(result_.ids.size()) == request_.max_tokens) return Finish(StopReason::kLength);
  const bool full = session_.context() > 0 && static_cast<int64_t>(session_.ids(request_.sequence).size()) >= session_.context();
  if (!full) {
    pending_.assign(1, id);
  } else if (request_.slide_keep < 0 || !Slide(id)) {
    Finish(StopReason::kContext);
  }
}

void RunToEnd(Session& session, Generation& generation) {
  while (!generation.done()) {
    try {
      const Tensor logits = session.Append(generation.sequence(), generation.pending(), 1, nullptr, generation.hooks());
      generation.Take(logits.view());
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kCancelled) throw;
      generation.Cancel();
    }
  }
}

GenerateResult Generate(Session& session, Sampler& sampler, const GenerateRequest& request) {
  Generation one(session, sampler, request);
  RunToEnd(session, one);
  return one.result();
}

namespace {

// One pass for all of them. False: it threw, and no sequence has changed.
bool PassTogether(Session& session, const std::vector<Generation*>& active, const RunHooks& hooks, std::vector<Tensor>& logits) {
  std::vector<Piece> pieces;
  for (const Generation* g : active) pieces.push_back({g->sequence(), g->pending(), 1});
  try {
    session.Append(pieces, [&](size_t piece, const TensorView& row) {
      logits[piece] = Tensor(row.dtype, row.shape);
      std::ranges::copy(row.bytes, logits[piece].mutable_bytes().begin());
    }, nullptr, hooks);
    return true;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kCancelled) throw;
    return false;
  }
}

}  // namespace

void GenerateTogether(Session& session, size_t parallel, const std::function<Generation*()>& next,
                      const std::function<void(Generation&, const std::optional<Error>&)>& finished, const RunHooks& hooks) {
  std::vector<Generation*> active;
  bool more = true;
  while (true) {
    while (more && active.size() < std::max<size_t>(parallel, 1)) {
      Generation* one = next();
      if (one == nullptr) more = false;
      else active.push_back(one);
    }
    if (active.empty()) return;
    std::vector<std::optional<Error>> errors(active.size());
    std::vector<size_t> lengths;
    for (const Generation* one : active) lengths.push_back(session.ids(one->sequence()).size());
    try {
      std::vector<Tensor> logits(active.size());
      // Where one of them cannot run, each runs by itself to find out which.
      const bool together = PassTogether(session, active, hooks, logits);
      for (size_t i = 0; i < active.size(); ++i) {
        try {
          // A pass that failed may have emptied a sequence that had to run again from its start.
          if (!together && session.ids(active[i]->sequence()).size() != lengths[i]) {
            throw Error(ErrorCode::kInference, "the text was lost when another one of the batch failed");
          }
          if (!together) logits[i] = session.Append(active[i]->sequence(), active[i]->pending(), 1, nullptr, hooks);
          active[i]->Take(logits[i].view());
        } catch (const Error& error) {
          if (error.code() == ErrorCode::kCancelled) throw;
          errors[i] = error;
        }
      }
    } catch (const Error&) {  // cancelled
      for (Generation* one : active) {
        if (!one->done()) one->Cancel();
      }
      more = false;
    }
    std::vector<Generation*> left;
    for (size_t i = 0; i < active.size(); ++i) {
      if (active[i]->done() || errors[i]) finished(*active[i], errors[i]);
      else left.push_back(active[i]);
    }
    active = std::move(left);
  }
}

}  // namespace apr
