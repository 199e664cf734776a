// See attention_cpu.h. A task is some query rows ("columns": tokens times the heads that share a kv head)
// of one sequence. It computes their scores against panels of keys, the softmax of each row, and their
// products with the values, by the f32 kernels of linear. What is added up is added in an order given by
// absolute key positions alone:
//   score:  blocks of kExactBlock along the head, as any f32 product of linear
//   sum of the softmax: lane = key position modulo the vector, then the lanes by halves
//   output: blocks of kExactBlock keys that start at multiples of it; a block's first key may be the
//           window's first, its last the query's own
// so batch, chunk and thread count change nothing.
#include "op/attention/attention_cpu.h"

#include <algorithm>
#include <vector>

#include "op/linear/linear_kernels.h"
#include "op/scratch.h"
#include "op/vector_kernels.h"

namespace apr {
namespace {

// Query rows of a task at most, and the floats that their scores may take.
constexpr int64_t kMaxColumns = 48;
constexpr int64_t kScoreFloats = 1 << 18;
// Below this many multiplications waking other threads costs more than it gains.
constexpr int64_t kInlineWork = 1 << 15;

struct AttentionState final : CpuState {
  std::vector<float> sinks;
  const LinearKernels* products = nullptr;
  const VectorKernels* vectors = nullptr;
};

int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// The part of the batch that one kv head of one sequence makes.
struct HeadJob {
  const OpContext<float>& context;
  const AttentionAttributes& a;
  const AttentionState& state;
  const SequenceSpan& span;
  const KvCache<float>& cache;
  int64_t kv;
  int64_t scores_at;  // first element of this sequence's block in the tapped matrices

  int64_t group() const { return a.heads / a.kv_heads; }
  int64_t columns() const { return span.count * group(); }
  int64_t keys() const { return span.position + span.count; }
  // Of column c: token by token, in each the heads of the group.
  int64_t Head(int64_t c) const { return kv * group() + c % group(); }
  int64_t Position(int64_t c) const { return span.position + c / group(); }
  int64_t Begin(int64_t c) const {
    return a.window > 0 ? std::max<int64_t>(0, Position(c) - a.window + 1) : 0;
  }
  int64_t Row(int64_t c) const { return (span.first + c / group()) * a.heads + Head(c); }
  // Row of a tapped matrix, or null.
  float* Tapped(size_t output, int64_t c) const {
    float* base = context.outputs[output].data();
    if (base == nullptr) return nullptr;
    return base + scores_at + (Head(c) * span.count + c / group()) * keys();
  }
};

// Columns [first, first + count) of a HeadJob and their scores: row c holds keys from 0 on, `stride` apart.
struct Block {
  const HeadJob& job;
  int64_t first;
  int64_t count;
  float* scores;
  int64_t stride;
  float* row(int64_t c) const { return scores + c * stride; }
};

// `rows` keys from `key` on as a panel [k_dim, rows]; keys behind the last one are zeros.
const float* KeyPanel(const HeadJob& job, int64_t key, float* panel) {
  static thread_local Scratch edge;
  const LinearKernels& products = *job.state.products;
  const int64_t k_dim = job.a.k_dim;
  const int64_t have = std::min<int64_t>(products.rows, job.keys() - key);
  const bool packed = job.cache.is_packed();
  const float* rows = packed ? nullptr : job.cache.key(job.kv, key);
  if (packed || (have < products.rows && products.rows > 1)) {
    auto* copy = edge.Get<float>(products.rows * k_dim);
    if (packed) ReadPackedKeys(job.cache, job.kv, key, have, k_dim, copy);
    else std::copy_n(rows, have * k_dim, copy);
    std::fill_n(copy + have * k_dim, (products.rows - have) * k_dim, 0.0f);
    rows = copy;
  }
  if (products.rows == 1) return rows;
  products.unpack_f32(DType::kF32)(reinterpret_cast<const std::byte*>(rows),
                                   k_dim * static_cast<int64_t>(sizeof(float)), k_dim, panel);
  return panel;
}

// Raw scores of the columns for keys [begin, end) and a little around. Unless `all` are wanted, whole
// panels that no column of a tile sees are left out.
void ScoreColumns(const Block& block, int64_t begin, int64_t end, bool all) {
  static thread_local Scratch query_scratch;
  static thread_local Scratch panel_scratch;
  const HeadJob& job = block.job;
  const LinearKernels& products = *job.state.products;
  const int64_t k_dim = job.a.k_dim;
  auto* q = query_scratch.Get<float>(block.count * k_dim);
  for (int64_t c = 0; c < block.count; ++c) {
    std::copy_n(job.context.inputs[0].data() + job.Row(block.first + c) * k_dim, k_dim, q + c * k_dim);
  }
  auto* panel_memory = panel_scratch.Get<float>(products.rows * k_dim);
  for (int64_t key = begin / products.rows * products.rows; key < end; key += products.rows) {
    const float* panel = KeyPanel(job, key, panel_memory);
    for (int64_t c = 0; c < block.count; c += kTileTokens) {
      const auto tokens = static_cast<int>(std::min<int64_t>(kTileTokens, block.count - c));
      const int64_t tile = block.first + c;
      if (!all && (job.Position(tile + tokens - 1) < key || job.Begin(tile) >= key + products.rows)) continue;
      float out[kTileTokens * kMaxPanelRows] = {};
      products.dot_rows(panel, products.rows, k_dim, q + c * k_dim, k_dim, tokens, out);
      for (int t = 0; t < tokens; ++t) std::copy_n(out + t * products.rows, products.rows, block.row(c + t) + key);
    }
  }
}

// Raw scores to weights; returns the sum of each column's weights in `sums`.
void SoftmaxColumns(const Block& block, float* sums) {
  const HeadJob& job = block.job;
  const VectorKernels& vectors = *job.state.vectors;
  const auto scale = static_cast<float>(job.a.scale);
  const auto cap = static_cast<float>(job.a.softcap);
  for (int64_t c = 0; c < block.count; ++c) {
    const int64_t column = block.first + c;
    const int64_t begin = job.Begin(column);
    const int64_t end = job.Position(column) + 1;
    float* scores = block.row(c);
    if (float* tap = job.Tapped(1, column); tap != nullptr) {
      std::copy_n(scores, job.keys(), tap);
      vectors.scale_scores(tap, job.keys(), scale, cap);
    }
    vectors.scale_scores(scores + begin, end - begin, scale, cap);
    const float* sink = job.state.sinks.empty() ? nullptr : &job.state.sinks[static_cast<size_t>(job.Head(column))];
    sums[c] = vectors.softmax({.scores = scores, .begin = begin, .end = end, .sink = sink});
    if (float* tap = job.Tapped(2, column); tap != nullptr) {
      std::fill_n(tap, job.keys(), 0.0f);
      for (int64_t s = begin; s < end; ++s) tap[s] = scores[s] / sums[c];
    }
  }
}

// Values as panels of `rows` columns of v_dim: where they lie, or padded when v_dim is narrower.
struct ValuePanel {
  const float* values;  // of key 0
  int64_t stride;
};

// out[tokens, rows] += weights of keys [from, to) * values. Blocks start at multiples of kExactBlock.
void AddKeys(const LinearKernels& products, const ValuePanel& panel, const Block& block, int64_t c, int tokens,
             int64_t from, int64_t to, float* out) {
  const int64_t aligned = std::min(RoundUp(from, kExactBlock), to);
  for (const auto& [begin, end] : {std::pair{from, aligned}, std::pair{aligned, to}}) {
    if (begin >= end) continue;
    products.dot_rows(panel.values + begin * panel.stride, panel.stride, end - begin, block.row(c) + begin,
                      block.stride, tokens, out);
  }
}

// One panel of outputs of columns [c, c + tokens): keys that all of them see in whole blocks together, the
// keys before and behind column by column.
void WeighTile(const Block& block, const ValuePanel& panel, int64_t c, int tokens, float* out) {
  const HeadJob& job = block.job;
  const LinearKernels& products = *job.state.products;
  const int64_t first = block.first + c;
  const int64_t last = first + tokens - 1;
  const int64_t common_begin = RoundUp(job.Begin(last), kExactBlock);
  const int64_t common_end =
      std::max(common_begin, (job.Position(first) + 1) / kExactBlock * kExactBlock);
  std::fill_n(out, tokens * products.rows, 0.0f);
  for (int t = 0; t < tokens; ++t) {
    const int64_t end = std::min(common_begin, job.Position(first + t) + 1);
    AddKeys(products, panel, block, c + t, 1, job.Begin(first + t), end, out + t * products.rows);
  }
  AddKeys(products, panel, block, c, tokens, common_begin, common_end, out);
  for (int t = 0; t < tokens; ++t) {
    AddKeys(products, panel, block, c + t, 1, common_end, job.Position(first + t) + 1, out + t * products.rows);
  }
}

// Values of keys [begin, end) copied: packed ones decoded, those narrower than a panel padded with zeros.
ValuePanel CopiedValues(const HeadJob& job, int64_t begin, int64_t end) {
  static thread_local Scratch scratch;
  const int64_t v_dim = job.a.v_dim;
  const int64_t width = std::max<int64_t>(job.state.products->rows, v_dim);
  auto* copy = scratch.Get<float>(end * width);
  if (job.cache.is_packed()) ReadPackedValues(job.cache, job.kv, begin, end - begin, width, copy + begin * width);
  for (int64_t s = begin; s < end; ++s) {
    if (!job.cache.is_packed()) std::copy_n(job.cache.value(job.kv, s), v_dim, copy + s * width);
    std::fill_n(copy + s * width + v_dim, width - v_dim, 0.0f);
  }
  return {copy, width};
}

void WeighValues(const Block& block, const float* sums, int64_t begin, int64_t end) {
  const HeadJob& job = block.job;
  const int64_t rows = job.state.products->rows;
  const int64_t v_dim = job.a.v_dim;
  const bool narrow = v_dim < rows;
  const ValuePanel whole =
      narrow || job.cache.is_packed() ? CopiedValues(job, begin, end) : ValuePanel{job.cache.value(job.kv, 0), v_dim};
  for (int64_t c = 0; c < block.count; c += kTileTokens) {
    const auto tokens = static_cast<int>(std::min<int64_t>(kTileTokens, block.count - c));
    for (int64_t d = 0; d < v_dim; d += rows) {
      // The last panel starts earlier, so that it is full.
      const int64_t start = narrow ? 0 : std::min(d, v_dim - rows);
      float out[kTileTokens * kMaxPanelRows];
      WeighTile(block, {whole.values + start, whole.stride}, c, tokens, out);
      for (int t = 0; t < tokens; ++t) {
        float* y = job.context.outputs[0].data() + job.Row(block.first + c + t) * v_dim;
        for (int64_t i = d; i < std::min(d + rows, v_dim); ++i) y[i] = out[t * rows + i - start] / sums[c + t];
      }
    }
  }
}

void RunBlock(const HeadJob& job, int64_t first, int64_t count) {
  static thread_local Scratch score_scratch;
  // A row's length is no multiple of 4096 bytes, so that rows do not fall on the same cache lines.
  const int64_t stride = RoundUp(job.keys(), kScoreAlign) + kScoreAlign;
  const Block block{job, first, count, score_scratch.Get<float>(count * stride), stride};
  // A tapped score matrix shows keys outside the mask too.
  const bool all = job.context.outputs[1].data() != nullptr;
  const int64_t begin = all ? 0 : job.Begin(first);
  const int64_t end = all ? job.keys() : job.Position(first + count - 1) + 1;
  ScoreColumns(block, begin, end, all);
  std::vector<float> sums(static_cast<size_t>(count));
  SoftmaxColumns(block, sums.data());
  WeighValues(block, sums.data(), job.Begin(first), job.Position(first + count - 1) + 1);
}

// Columns per task: few enough that every thread gets some and that the scores stay in a cache.
int64_t ColumnsPerTask(const HeadJob& job, int64_t threads, int64_t heads) {
  const int64_t share = (job.columns() * heads + threads - 1) / threads;
  const int64_t fits = std::max<int64_t>(kTileTokens, kScoreFloats / job.keys() / kTileTokens * kTileTokens);
  return std::clamp<int64_t>(share, 1, std::min(kMaxColumns, fits));
}

}  // namespace

std::unique_ptr<CpuState> PrepareAttentionCpu(const CpuPrepareContext& context) {
  auto state = std::make_unique<AttentionState>();
  state->products = &LinearKernelsFor(ActiveIsa());
  state->vectors = &VectorKernelsFor(ActiveIsa());
  if (!context.weights.empty()) state->sinks = ReadWeightF32(*context.weights[0]);
  return state;
}

void AttentionCpu(const OpContext<float>& context) {
  const auto& a = context.node.As<AttentionAttributes>();
  const auto& state = *static_cast<const AttentionState*>(context.state);
  AppendToCaches(a, context);
  struct Task {
    size_t job;
    int64_t first;
    int64_t count;
  };
  std::vector<HeadJob> jobs;
  std::vector<Task> tasks;
  int64_t scores_at = 0;
  int64_t work = 0;
  const int64_t heads = a.kv_heads * static_cast<int64_t>(context.batch.sequences.size());
  for (size_t i = 0; i < context.batch.sequences.size(); ++i) {
    const SequenceSpan& span = context.batch.sequences[i];
    for (int64_t kv = 0; kv < a.kv_heads && span.count > 0; ++kv) {
      jobs.push_back({context, a, state, span, context.caches[i], kv, scores_at});
      const HeadJob& job = jobs.back();
      const int64_t step = ColumnsPerTask(job, context.pool.threads(), heads);
      for (int64_t c = 0; c < job.columns(); c += step) {
        tasks.push_back({jobs.size() - 1, c, std::min(step, job.columns() - c)});
      }
      work += job.columns() * job.keys() * (a.k_dim + a.v_dim);
    }
    scores_at += a.heads * span.count * (span.position + span.count);
  }
  const auto count = static_cast<int64_t>(tasks.size());
  context.pool.ParallelFor(count, work < kInlineWork ? std::max<int64_t>(count, 1) : 1,
                           [&](int64_t begin, int64_t end, int) {
                             for (auto t = static_cast<size_t>(begin); t < static_cast<size_t>(end); ++t) {
                               RunBlock(jobs[tasks[t].job], tasks[t].first, tasks[t].count);
                             }
                           });
}

}  // namespace apr
