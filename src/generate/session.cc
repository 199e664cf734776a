// See session.h.
#include "generate/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace apr {

// A piece on its way through the passes.
struct Session::Work {
  int sequence = 0;
  std::vector<int32_t> ids;  // to run: the piece's, or the whole sequence's when it starts again
  size_t done = 0;
  int64_t logits = 0;
  int64_t total = 0;         // length of the sequence at the end
  int64_t restore = 0;       // length to go back to on an error
};

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options,
                 std::shared_ptr<const BoundGraph> graph)
    : model_(std::move(model)),
      options_(options),
      executor_(Executor::Create(options.executor, graph ? std::move(graph) : model_->bound(), options.compute)) {
  APR_CHECK(options.chunk >= 0 && options.context >= 0);
}

int Session::NewSequence() {
  const int sequence = executor_->NewSequence();
  sequences_[sequence];
  return sequence;
}

void Session::FreeSequence(int sequence) {
  executor_->FreeSequence(sequence);
  sequences_.erase(sequence);
}

void Session::Restore(int sequence, std::span<const int32_t> ids, int64_t rope_length, Bytes rows) {
  std::vector<int32_t>& held = sequences_.at(sequence);
  APR_CHECK(held.empty());
  executor_->RestoreCache(sequence, rope_length, rows);
  if (executor_->Length(sequence) != static_cast<int64_t>(ids.size())) {
    executor_->Truncate(sequence, 0);
    throw Error(ErrorCode::kInvalidFormat, fmt::format("the rows are not those of {} tokens", ids.size()));
  }
  held.assign(ids.begin(), ids.end());
}

void Session::Truncate(int sequence, int64_t length) {
  executor_->Truncate(sequence, length);
  sequences_.at(sequence).resize(static_cast<size_t>(length));
}

void Session::CheckPiece(const Piece& piece) const {
  const auto count = static_cast<int64_t>(piece.ids.size());
  APR_CHECK(piece.logits >= 0 && piece.logits <= count);
  const auto have = static_cast<int64_t>(ids(piece.sequence).size());
  if (options_.context > 0 && have + count > options_.context) {
    throw Error(ErrorCode::kInference, fmt::format("the context of {} tokens is full: {} are there, {} more do not fit",
                                                   options_.context, have, count));
  }
}

Session::Work Session::Prepare(const Piece& piece) {
  std::vector<int32_t>& held = sequences_.at(piece.sequence);
  Work work{.sequence = piece.sequence,
            .ids = {piece.ids.begin(), piece.ids.end()},
            .logits = piece.logits,
            .total = std::max(piece.total, static_cast<int64_t>(held.size() + piece.ids.size())),
            .restore = static_cast<int64_t>(held.size())};
  if (executor_->IsStale(piece.sequence, work.total)) {
    work.ids.insert(work.ids.begin(), held.begin(), held.end());
    work.restore = 0;
    Truncate(piece.sequence, 0);
  }
  return work;
}

void Session::RunPasses(std::vector<Work>& work, const LogitSink& sink, TapSink* taps, const RunHooks& hooks) {
  const size_t most = options_.chunk > 0 ? static_cast<size_t>(options_.chunk) : SIZE_MAX;
  while (true) {
    if (hooks.cancelled && hooks.cancelled()) throw Error(ErrorCode::kCancelled, "interrupted");
    std::vector<Chunk> chunks;
    std::vector<size_t> of;
    int64_t tokens = 0;
    for (size_t i = 0; i < work.size(); ++i) {
      Work& w = work[i];
      const size_t count = std::min(most, w.ids.size() - w.done);
      if (count == 0) continue;
      const auto left = static_cast<int64_t>(w.ids.size() - w.done - count);  // after this pass
      const int64_t logits = std::clamp<int64_t>(w.logits - left, 0, static_cast<int64_t>(count));
      chunks.push_back({w.sequence, std::span(w.ids).subspan(w.done, count), logits, w.total});
      of.push_back(i);
      w.done += count;
      tokens += static_cast<int64_t>(count);
    }
    if (chunks.empty()) return;
    const Tensor logits = executor_->Forward(chunks, taps);
    int64_t row = 0;
    for (size_t c = 0; c < chunks.size(); ++c) {
      if (chunks[c].logits > 0) sink(of[c], logits.view().Rows(row, chunks[c].logits));
      row += chunks[c].logits;
    }
    if (hooks.progress) hooks.progress(tokens);
  }
}

void Session::Append(std::span<const Piece> pieces, const LogitSink& sink, TapSink* taps, const RunHooks& hooks) {
  for (const Piece& piece : pieces) CheckPiece(piece);
  std::vector<Work> work;
  for (const Piece& piece : pieces) work.push_back(Prepare(piece));
  try {
    RunPasses(work, sink, taps, hooks);
  } catch (...) {
    for (const Work& w : work) executor_->Truncate(w.sequence, std::min(w.restore, executor_->Length(w.sequence)));
    throw;
  }
  for (const Work& w : work) {
    std::vector<int32_t>& held = sequences_.at(w.sequence);
    held.insert(held.end(), w.ids.begin(), w.ids.end());
  }
}

Tensor Session::Append(int sequence, std::span<const int32_t> ids, int64_t logits, TapSink* taps,
                       const RunHooks& hooks) {
  const Piece piece{sequence, ids, logits};
  const DType dtype = executor_->kind() == ExecutorKind::kReference ? DType::kF64 : DType::kF32;
  Tensor out(dtype, Shape{logits, model_->config().vocab_size});
  size_t at = 0;
  const auto keep = [&](size_t, const TensorView& rows) {
    APR_CHECK(at + rows.bytes.size() <= out.mutable_bytes().size());
    std::ranges::copy(rows.bytes, out.mutable_bytes().begin() + static_cast<ptrdiff_t>(at));
    at += rows.bytes.size();
  };
  Append(std::span(&piece, 1), keep, taps, hooks);
  APR_CHECK(at == out.mutable_bytes().size());
  return out;
}

}  // namespace apr
