// Executors: they carry out a graph over batches of token sequences. `reference` computes every op in
// f64 from its formula; `cpu` in f32 with vector kernels. Both walk the same graph with the same taps.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "graph/weight.h"
#include "op/context.h"
#include "tensor/tensor.h"

namespace apr {

// A graph and the bytes of its weights. weights[i] belongs to graph.weights[i].
struct BoundGraph {
  Graph graph;
  std::vector<WeightRef> weights;
  std::shared_ptr<const void> keep_alive;  // owner of the mapped bytes

  // Weights whose bytes are computed are there as long as what this returns lives. An executor holds its own.
  std::vector<std::shared_ptr<const void>> Hold() const;
};

enum class ExecutorKind { kReference, kCpu };
const char* ExecutorName(ExecutorKind kind);                       // "reference", "cpu"
std::optional<ExecutorKind> ExecutorFromName(std::string_view name);
const char* PrecisionName(Precision precision);                    // "exact", "fast"
std::optional<Precision> PrecisionFromName(std::string_view name);
const char* CacheTypeName(DType type);                             // "f64", "f32", "f16", "q8_0"
std::optional<DType> CacheTypeFromName(std::string_view name);     // the last three

struct ExecutorOptions {
  int threads = 0;                         // 0: as many as the process may use
  Precision precision = Precision::kFast;  // kCpu only; kReference is always f64
  // What keys and values are kept as: kF32 (the executor's own type: f32, or f64), kF16 or kQ8_0.
  DType cache_type = DType::kF32;
};

// Tokens to append to a sequence.
struct Chunk {
  int sequence = 0;
  std::span<const int32_t> ids;
  // Whose logits are wanted: the last `logits` tokens of this chunk.
  int64_t logits = 1;
  // Length of the whole sequence once all its chunks have run; 0: this is the last one. See
  // SequenceSpan::total_length.
  int64_t total_length = 0;
};

// Receives named values. Taking a copy is all that a tap does: results are the same bits without it.
class TapSink {
 public:
  virtual ~TapSink() = default;
  virtual bool Wants(const Stage& stage) const = 0;
  // `data`: f32 (cpu) or f64 (reference); [T, width], or [heads, T, S] for attention matrices of
  // the only sequence of the batch. Valid during the call.
  virtual void Take(const Stage& stage, const TensorView& data) = 0;
};

class Executor {
 public:
  static std::unique_ptr<Executor> Create(ExecutorKind kind, std::shared_ptr<const BoundGraph> model,
                                          const ExecutorOptions& options);
  virtual ~Executor() = default;

  virtual ExecutorKind kind() const = 0;
  virtual Precision precision() const = 0;
  virtual int threads() const = 0;
  virtual DType cache_type() const = 0;  // what is stored: kF32, kF64, kF16, kQ8_0
  virtual const BoundGraph& model() const = 0;

  // Sequences and their key/value caches.
  virtual int NewSequence() = 0;
  virtual void FreeSequence(int sequence) = 0;
  virtual int64_t Length(int sequence) const = 0;
  // Forgets the tokens from `length` on.
  virtual void Truncate(int sequence, int64_t length) = 0;
  virtual uint64_t CacheBytes() const = 0;
  // True if the cached keys would be wrong once the sequence has `total_length` tokens, because a
  // rope scaling follows the length. The caller then truncates to 0 and runs all tokens again.
  virtual bool IsStale(int sequence, int64_t total_length) const = 0;

  // A sequence's cache as bytes: slot after slot, of each the keys of every head and then the values, rows of
  // positions [0, Length). What Save hands over, Restore takes into a sequence that holds nothing, of an
  // executor of the same graph and the same cache type; the length follows from the size. Throws
  // Error(kInvalidFormat) if it is no whole number of tokens.
  virtual int64_t RopeLength(int sequence) const = 0;  // total_length of the sequence's last pass
  virtual uint64_t CacheBytesPerToken() const = 0;
  virtual void SaveCache(int sequence, const std::function<void(Bytes)>& sink) const = 0;
  virtual void RestoreCache(int sequence, int64_t rope_length, Bytes rows) = 0;

  // Appends the chunks' tokens and returns the logits asked for, chunk after chunk:
  // [rows, V], f32 or f64. Throws Error(kInference) for ids or positions outside the model's tables; the
  // sequences are then as before.
  virtual Tensor Forward(std::span<const Chunk> chunks, TapSink* taps = nullptr) = 0;

  // Bytes of activations in use at most so far.
  virtual uint64_t ActivationBytes() const = 0;
};

// One node by itself: `inputs` as node.inputs ([T, width], one fresh sequence from position 0), its
// attributes and weights replaceable. Returns all outputs, optional ones too if `all_outputs`.
template <typename Real>
struct ReplayRequest {
  const BoundGraph& model;
  size_t node = 0;
  std::vector<std::span<const Real>> inputs;
  int64_t tokens = 0;
  std::span<const int32_t> ids;                  // for nodes that read ids
  const Attributes* attributes = nullptr;        // null: the node's own
  const std::vector<WeightRef>* weights = nullptr;  // null: the node's own; else as node.weights
  bool all_outputs = false;
  Precision precision = Precision::kExact;
};
template <typename Real>
std::vector<std::vector<Real>> Replay(const ReplayRequest<Real>& request, ThreadPool& pool);

}  // namespace apr
