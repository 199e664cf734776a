// One model over the windows of a text: logits in blocks, so that those of a whole text never exist at once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "eval/window_plan.h"
#include "generate/session.h"

namespace apr {

class WindowRunner {
 public:
  struct Block {
    int64_t first = 0;  // row 0 predicts this token of the text, row 1 the next
    Tensor logits;      // [n, V]
  };

  // `most_logits`: elements of a block. Borrows the session and the ids.
  WindowRunner(Session& session, std::span<const int32_t> ids, std::optional<int32_t> first_id, int64_t most_logits = 1 << 24);
  ~WindowRunner();
  WindowRunner(const WindowRunner&) = delete;
  WindowRunner& operator=(const WindowRunner&) = delete;

  void Begin(const EvalWindow& window);
  // The next scored tokens of the window; nullopt: there are no more. Throws what Session::Append throws.
  std::optional<Block> Next(const RunHooks& hooks);
  int64_t rows_per_block() const { return rows_; }

 private:
  void Run(int64_t count, int64_t logits, Tensor* out, const RunHooks& hooks);

  Session& session_;
  std::span<const int32_t> ids_;
  std::optional<int32_t> first_id_;
  int64_t rows_;
  int sequence_;
  EvalWindow window_;
  int64_t at_ = 0;  // next token of the text to run
};

}  // namespace apr
