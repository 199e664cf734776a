// What an op's function gets to work with: tokens, sequences, inputs, outputs, weights, cache.
// `Real` is double for the reference executor and float for the cpu one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "graph/graph.h"
#include "graph/op.h"
#include "graph/weight.h"

namespace apr {

// `exact`: weights as stored, activations f32. `fast`: activations may be rounded to int8, per block
// of 32, where the weights are quantised.
enum class Precision { kExact, kFast };

// One sequence's part of a batch: tokens [first, first + count) of the batch stand at positions
// [position, position + count) of that sequence.
struct SequenceSpan {
  int sequence = 0;           // index into the executor's caches
  int64_t first = 0;
  int64_t count = 0;
  int64_t position = 0;
  // Length of the whole sequence as far as it is known when these tokens run: position + count, or
  // the full prompt's length when a prompt runs in chunks. Rope scalings that follow the length
  // (dynamic, longrope) use it, so that chunking changes nothing.
  int64_t total_length = 0;
};

struct Batch {
  std::span<const int32_t> ids;           // [T]
  std::span<const int32_t> positions;     // [T]
  std::span<const SequenceSpan> sequences;
  std::span<const int64_t> logit_rows;    // [R] token indices whose logits are wanted, ascending
  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
};

// Rows of a cache that are stored in a narrower type: F16, or Q8_0 with rows padded to whole blocks.
struct PackedKv {
  DType dtype = DType::kF16;
  std::byte* keys = nullptr;    // [kv_heads, capacity, k_row_bytes]
  std::byte* values = nullptr;  // [kv_heads, capacity, v_row_bytes]
  int64_t k_row_bytes = 0;
  int64_t v_row_bytes = 0;
};

// Keys and values of one sequence in one attention node. Head-major: key(h) is [capacity, k_dim]
// with rows contiguous, value(h) likewise; rows [0, length) are filled. op/attention/kv_rows.h writes and
// reads rows however they are stored.
template <typename Real>
struct KvCache {
  Real* keys = nullptr;     // [kv_heads, capacity, k_dim]; null: `packed` holds the rows
  Real* values = nullptr;   // [kv_heads, capacity, v_dim]
  int64_t capacity = 0;
  int64_t k_dim = 0;
  int64_t v_dim = 0;
  PackedKv packed = {};
  bool is_packed() const { return keys == nullptr; }
  Real* key(int64_t head, int64_t position) const { return keys + (head * capacity + position) * k_dim; }
  Real* value(int64_t head, int64_t position) const { return values + (head * capacity + position) * v_dim; }
};

template <typename Real>
struct OpContext {
  const Node& node;
  const Graph& graph;
  const Batch& batch;
  std::span<const std::span<const Real>> inputs;   // as node.inputs; token ids arrive in batch.ids
  std::span<const std::span<Real>> outputs;        // as node.outputs; an empty span is not wanted
  std::span<const WeightRef* const> weights;       // as node.weights
  // One per entry of batch.sequences, with room for position + count rows; attention nodes only.
  std::span<const KvCache<Real>> caches;
  ThreadPool& pool;
  Precision precision = Precision::kExact;
  CpuState* state = nullptr;

  int64_t InputWidth(size_t i) const {
    return graph.values[static_cast<size_t>(node.inputs[i])].width;
  }
  int64_t OutputWidth(size_t i) const {
    return graph.values[static_cast<size_t>(node.outputs[i])].width;
  }
  // Rows of input i in this batch: T or R.
  int64_t InputRows(size_t i) const {
    const Value& value = graph.values[static_cast<size_t>(node.inputs[i])];
    return value.kind == ValueKind::kLogitRows ? static_cast<int64_t>(batch.logit_rows.size())
                                               : batch.tokens();
  }
};

struct CpuPrepareContext {
  const Node& node;
  const Graph& graph;
  std::span<const WeightRef* const> weights;
  Precision precision;
};

// Canonical row `row` of a weight in f64 / f32, transforms applied. `out`: cols() elements.
void ReadWeightRow(const WeightRef& weight, int64_t row, std::span<double> out);
void ReadWeightRow(const WeightRef& weight, int64_t row, std::span<float> out);
// A whole small weight (norms, biases).
std::vector<double> ReadWeightF64(const WeightRef& weight);
std::vector<float> ReadWeightF32(const WeightRef& weight);

}  // namespace apr
