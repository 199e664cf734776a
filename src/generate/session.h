// A model ready to run: sequences of tokens and their caches over one executor. Every command that
// computes goes through Session::Append, whatever it does with the logits.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "exec/executor.h"
#include "model/model.h"

namespace apr {

struct SessionOptions {
  ExecutorKind executor = ExecutorKind::kCpu;
  ExecutorOptions compute;
  // Tokens of a sequence that one pass takes at most; 0: all. Never enters a result.
  int64_t chunk = 512;
  // Most tokens a sequence may have; 0: as many as the model's own tables allow.
  int64_t context = 0;
};

// Tokens to append to one sequence.
struct Piece {
  int sequence = 0;
  std::span<const int32_t> ids;
  int64_t logits = 1;  // for how many of them, counted from the last, logits are wanted
  // Length of the sequence once later pieces of it will have been appended, where that is known: rope
  // scalings that follow the length then see it from the start. 0: nothing more is known to come.
  int64_t total = 0;
};

// `rows`: [n, V] logits of the next n wanted tokens of pieces[piece]; valid during the call.
using LogitSink = std::function<void(size_t piece, const TensorView& rows)>;

struct RunHooks {
  std::function<void(int64_t tokens)> progress;  // so many more tokens have run
  std::function<bool()> cancelled;               // asked between passes; true ends with kCancelled
};

class Session {
 public:
  // `graph`: runs instead of the model's own, e.g. with a changed attribute; null: the model's.
  Session(std::shared_ptr<const Model> model, const SessionOptions& options,
          std::shared_ptr<const BoundGraph> graph = nullptr);

  const Model& model() const { return *model_; }
  Executor& executor() { return *executor_; }
  const Executor& executor() const { return *executor_; }
  int64_t context() const { return options_.context; }
  void set_context(int64_t tokens) { options_.context = tokens; }

  int NewSequence();
  void FreeSequence(int sequence);
  // The tokens that a sequence holds.
  const std::vector<int32_t>& ids(int sequence) const { return sequences_.at(sequence); }
  // Takes the cache of another session of the same model into a sequence that holds nothing: what
  // Executor::SaveCache gave for `ids`. Throws kInvalidFormat where the size does not fit.
  void Restore(int sequence, std::span<const int32_t> ids, int64_t rope_length, Bytes rows);

  // Forgets the tokens from `length` on.
  void Truncate(int sequence, int64_t length);

  // Appends the pieces (of different sequences) and hands over the logits. Where a rope scaling follows
  // the length, a sequence whose cached keys became wrong is run again from its start. Throws
  // Error(kInference): the context is full, a token id outside the vocabulary; Error(kCancelled). The
  // sequences are then as before, or empty if they had to be run again.
  void Append(std::span<const Piece> pieces, const LogitSink& sink, TapSink* taps = nullptr,
              const RunHooks& hooks = {});
  // One sequence: its [logits, V].
  Tensor Append(int sequence, std::span<const int32_t> ids, int64_t logits = 1, TapSink* taps = nullptr,
                const RunHooks& hooks = {});

 private:
  struct Work;
  void CheckPiece(const Piece& piece) const;
  Work Prepare(const Piece& piece);
  void RunPasses(std::vector<Work>& work, const LogitSink& sink, TapSink* taps, const RunHooks& hooks);

  std::shared_ptr<const Model> model_;
  SessionOptions options_;
  std::unique_ptr<Executor> executor_;
  std::map<int, std::vector<int32_t>> sequences_;
};

}  // namespace apr
