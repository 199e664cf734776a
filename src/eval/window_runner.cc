// See window_runner.h.
#include "eval/window_runner.h"

#include <algorithm>

#include "model/model.h"

namespace apr {

WindowRunner::WindowRunner(Session& session, std::span<const int32_t> ids, std::optional<int32_t> first_id, int64_t most_logits)
    : session_(session),
      ids_(ids),
      first_id_(first_id),
      rows_(std::clamp<int64_t>(most_logits / session.model().config().vocab_size, 1, 512)),
      sequence_(session.NewSequence()) {}

WindowRunner::~WindowRunner() { session_.FreeSequence(sequence_); }

void WindowRunner::Begin(const EvalWindow& window) {
  window_ = window;
  at_ = window.begin;
  session_.Truncate(sequence_, 0);
}

// The window's last token predicts nothing that is scored and does not run; its place counts all the same.
void WindowRunner::Run(int64_t count, int64_t logits, Tensor* out, const RunHooks& hooks) {
  std::vector<int32_t> ids(ids_.begin() + at_, ids_.begin() + at_ + count);
  if (at_ == window_.begin && first_id_) ids[0] = *first_id_;
  const Piece piece{sequence_, ids, logits, window_.end - window_.begin};
  size_t filled = 0;
  const auto keep = [&](size_t, const TensorView& rows) {
    std::ranges::copy(rows.bytes, out->mutable_bytes().begin() + static_cast<ptrdiff_t>(filled));
    filled += rows.bytes.size();
  };
  session_.Append(std::span(&piece, 1), keep, nullptr, hooks);
  at_ += count;
}

std::optional<WindowRunner::Block> WindowRunner::Next(const RunHooks& hooks) {
  const int64_t before = window_.first_scored - 1 - at_;
  if (before > 0) Run(before, 0, nullptr, hooks);
  const int64_t count = std::min(rows_, window_.end - 1 - at_);
  if (count <= 0) return std::nullopt;
  const DType dtype = session_.executor().kind() == ExecutorKind::kReference ? DType::kF64 : DType::kF32;
  Block block{at_ + 1, Tensor(dtype, Shape{count, session_.model().config().vocab_size})};
  Run(count, count, &block.logits, hooks);
  return block;
}

}  // namespace apr
