// See linear_cpu.h.
#include "op/linear/linear_cpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "base/check.h"
#include "op/context.h"
#include "op/linear/linear_kernels.h"
#include "op/scratch.h"
#include "quant/quant.h"

namespace apr {
namespace {

// Tokens that run between two readings of the weights. Bounds the memory for packed activations.
constexpr int64_t kChunkTokens = 512;
// Columns that the f32 path decodes at a time: sixteen rows of them fill half of a 32 KiB cache.
constexpr int64_t kExactColumns = 256;
// Below this many multiplications waking other threads costs more than it gains.
constexpr int64_t kInlineProducts = 1 << 15;

struct LinearState final : CpuState {
  const LinearKernels* kernels = nullptr;
  const FastKernel* fast = nullptr;  // null: f32 products
  UnpackF32 unpack = nullptr;        // null: DecodeTensor, row by row
  Precision precision = Precision::kExact;
  DType dtype = DType::kF32;
  int64_t stored_cols = 0;  // cols rounded up to whole blocks
  std::vector<int32_t> output_row;  // of each storage row, -1: not wanted; empty: the same
};

struct Job {
  const LinearState& state;
  const WeightRef& weight;
  ThreadPool& pool;
  const float* x;  // [tokens, cols]
  float* y;        // [tokens, n_out]
  int64_t tokens;
  int64_t cols;
  int64_t n_out;
  int64_t stride;  // bytes from row to row of the weight

  int64_t rows() const { return weight.rows(); }
  int64_t tiles() const { return (tokens + kTileTokens - 1) / kTileTokens; }
  int TileTokens(int64_t tile) const {
    return static_cast<int>(std::min<int64_t>(kTileTokens, tokens - tile * kTileTokens));
  }
};

// A panel's rows in storage. The last one of a matrix starts earlier, so that it is full; its first
// `skip` rows belong to the panel before.
struct Panel {
  const std::byte* rows;
  int64_t first;  // storage row; negative if the matrix is smaller than a panel
  int skip;       // leading lanes without a row of their own
};

Panel LocatePanel(const Job& job, int64_t index, Scratch& scratch) {
  const int panel_rows = job.state.kernels->rows;
  const std::byte* bytes = job.weight.view.bytes.data();
  const int64_t wanted = index * panel_rows;
  const int64_t first = std::min(wanted, job.rows() - panel_rows);
  const int skip = static_cast<int>(wanted - first);
  if (first >= 0) return {bytes + first * job.stride, first, skip};
  auto* copy = scratch.Get<std::byte>(panel_rows * job.stride);
  std::memset(copy, 0, static_cast<size_t>(skip * job.stride));
  std::memcpy(copy + skip * job.stride, bytes, static_cast<size_t>(job.rows() * job.stride));
  return {copy, first, skip};
}

// True if no row of the panel is an output.
bool IsUnwanted(const Job& job, int64_t index) {
  const std::vector<int32_t>& map = job.state.output_row;
  if (map.empty()) return false;
  const int64_t begin = index * job.state.kernels->rows;
  const int64_t end = std::min(begin + job.state.kernels->rows, job.rows());
  return std::all_of(map.begin() + begin, map.begin() + end, [](int32_t row) { return row < 0; });
}

// out: [count, panel rows], of tokens [token, token + count).
void WriteOutputs(const Job& job, const Panel& panel, int64_t token, int64_t count, const float* out) {
  const int panel_rows = job.state.kernels->rows;
  const std::vector<int32_t>& map = job.state.output_row;
  for (int64_t t = 0; t < count; ++t, out += panel_rows) {
    float* y = job.y + (token + t) * job.n_out;
    if (map.empty()) {
      std::copy(out + panel.skip, out + panel_rows, y + panel.first + panel.skip);
      continue;
    }
    for (int lane = panel.skip; lane < panel_rows; ++lane) {
      const int32_t row = map[static_cast<size_t>(panel.first + lane)];
      if (row >= 0) y[row] = out[lane];
    }
  }
}

// Panels per task: enough work to be worth fetching, and several tasks a thread to even out.
int64_t PanelGrain(const Job& job, int64_t panels) {
  if (job.rows() * job.cols * job.tokens < kInlineProducts) return panels;
  const int64_t share = panels / (job.pool.threads() * 6);
  const int64_t cap = job.tokens > kTileTokens ? 1 : 32;
  return std::clamp<int64_t>(share, 1, cap);
}

template <typename F>
void ForPanels(const Job& job, F&& run_panel) {
  const int panel_rows = job.state.kernels->rows;
  const int64_t panels = (job.rows() + panel_rows - 1) / panel_rows;
  job.pool.ParallelFor(panels, PanelGrain(job, panels), [&](int64_t begin, int64_t end, int) {
    static thread_local Scratch edge;
    for (int64_t p = begin; p < end; ++p) {
      if (!IsUnwanted(job, p)) run_panel(LocatePanel(job, p, edge));
    }
  });
}

// The chunk's activations, tile by tile [cols, tokens of the tile].
const float* PackFloats(const Job& job, Scratch& scratch) {
  if (job.tokens == 1) return job.x;
  auto* packed = scratch.Get<float>(job.tokens * job.cols);
  const int64_t grain = job.tokens * job.cols < kInlineProducts ? job.tiles() : 1;
  job.pool.ParallelFor(job.tiles(), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int tokens = job.TileTokens(tile);
      const float* x = job.x + tile * kTileTokens * job.cols;
      float* out = packed + tile * kTileTokens * job.cols;
      for (int64_t k = 0; k < job.cols; ++k) {
        for (int t = 0; t < tokens; ++t) *out++ = x[t * job.cols + k];
      }
    }
  });
  return packed;
}

// Rows one by one, for types without a vector kernel.
void DecodePanel(const Job& job, const Panel& panel, float* row, float* out) {
  const int panel_rows = job.state.kernels->rows;
  std::fill_n(out, panel_rows * job.cols, 0.0f);
  for (int lane = panel.skip; lane < panel_rows; ++lane) {
    DecodeTensor(job.weight.view.Rows(panel.first + lane, 1), {row, static_cast<size_t>(job.cols)});
    const double add = job.weight.add;
    for (int64_t k = 0; k < job.cols; ++k) {
      out[k * panel_rows + lane] = add == 0 ? row[k] : static_cast<float>(row[k] + add);
    }
  }
}

void RunExact(const Job& job) {
  static thread_local Scratch packed_scratch;
  const float* packed = PackFloats(job, packed_scratch);
  const LinearState& state = job.state;
  const int panel_rows = state.kernels->rows;
  const DTypeInfo& type = InfoOf(state.dtype);
  ForPanels(job, [&](const Panel& panel) {
    static thread_local Scratch weights_scratch;
    static thread_local Scratch sums_scratch;
    static thread_local Scratch row_scratch;
    auto* sums = sums_scratch.Get<float>(job.tokens * panel_rows);
    std::fill_n(sums, job.tokens * panel_rows, 0.0f);
    const int64_t step = state.unpack != nullptr ? kExactColumns : std::max<int64_t>(job.cols, 1);
    auto* weights = weights_scratch.Get<float>(step * panel_rows);
    for (int64_t k = 0; k < job.cols; k += step) {
      const int64_t cols = std::min(step, job.cols - k);
      if (state.unpack != nullptr) {
        const std::byte* rows = panel.rows + k / type.block_elems * type.block_bytes;
        state.unpack(rows, job.stride, std::min(step, state.stored_cols - k), weights);
      } else {
        DecodePanel(job, panel, row_scratch.Get<float>(job.cols), weights);
      }
      for (int64_t tile = 0; tile < job.tiles(); ++tile) {
        const int tokens = job.TileTokens(tile);
        state.kernels->dot_f32(weights, cols, packed + tile * kTileTokens * job.cols + k * tokens, tokens,
                               sums + tile * kTileTokens * panel_rows);
      }
    }
    WriteOutputs(job, panel, 0, job.tokens, sums);
  });
}

// Where a tile's parts lie in memory that holds all tiles of a chunk.
struct QuantBuffers {
  int8_t* codes;
  float* scale;
  int32_t* correction;
  float* weighted_sum;
  int64_t padded_cols;

  QuantTile Tile(int64_t tile) const {
    const int64_t elements = tile * kTileTokens * padded_cols;
    return {codes + elements, scale + elements / 32, correction + elements / 16, weighted_sum + elements / 32};
  }
};

QuantBuffers QuantizeChunk(const Job& job) {
  static thread_local Scratch codes;
  static thread_local Scratch scale;
  static thread_local Scratch correction;
  static thread_local Scratch weighted_sum;
  const LinearState& state = job.state;
  const int64_t elements = job.tokens * state.stored_cols;
  const QuantBuffers buffers{codes.Get<int8_t>(elements), scale.Get<float>(elements / 32),
                             correction.Get<int32_t>(elements / 16), weighted_sum.Get<float>(elements / 32),
                             state.stored_cols};
  const int64_t grain = elements < kInlineProducts ? job.tiles() : 1;
  job.pool.ParallelFor(job.tiles(), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t tile = begin; tile < end; ++tile) {
      state.kernels->quantize({.x = job.x + tile * kTileTokens * job.cols,
                               .stride = job.cols,
                               .cols = job.cols,
                               .padded_cols = state.stored_cols,
                               .tokens = job.TileTokens(tile),
                               .kind = state.fast->kind,
                               .offset = state.fast->offset},
                              buffers.Tile(tile));
    }
  });
  return buffers;
}

void RunFast(const Job& job) {
  const QuantBuffers buffers = QuantizeChunk(job);
  const LinearState& state = job.state;
  const FastKernel& kernel = *state.fast;
  const int64_t count = state.stored_cols / InfoOf(state.dtype).block_elems;
  if (job.tokens == 1) {
    const QuantTile tile = buffers.Tile(0);
    ForPanels(job, [&](const Panel& panel) {
      float out[kMaxPanelRows];
      kernel.dot_one(panel.rows, job.stride, count, tile, out);
      WriteOutputs(job, panel, 0, 1, out);
    });
    return;
  }
  ForPanels(job, [&](const Panel& panel) {
    static thread_local Scratch weights_scratch;
    auto* weights = weights_scratch.Get<std::byte>(state.stored_cols / 32 * kernel.unit_bytes);
    kernel.unpack(panel.rows, job.stride, count, weights);
    for (int64_t tile = 0; tile < job.tiles(); ++tile) {
      float out[kTileTokens * kMaxPanelRows];
      const int tokens = job.TileTokens(tile);
      kernel.dot(weights, state.stored_cols, buffers.Tile(tile), tokens, out);
      WriteOutputs(job, panel, tile * kTileTokens, tokens, out);
    }
  });
}

std::vector<int32_t> OutputRows(const WeightRef& weight) {
  std::vector<int32_t> out(static_cast<size_t>(weight.rows()), -1);
  const std::vector<int32_t>& order = *weight.row_order;
  for (size_t r = 0; r < order.size(); ++r) {
    const int32_t storage = order[r];
    APR_CHECK(storage >= 0 && storage < weight.rows() && out[static_cast<size_t>(storage)] == -1);
    out[static_cast<size_t>(storage)] = static_cast<int32_t>(r);
  }
  return out;
}

}  // namespace

std::unique_ptr<CpuState> PrepareLinearCpu(const CpuPrepareContext& context) {
  const WeightRef& weight = *context.weights[0];
  auto state = std::make_unique<LinearState>();
  state->kernels = &LinearKernelsFor(ActiveIsa());
  state->precision = context.precision;
  state->dtype = weight.view.dtype;
  if (weight.row_order) state->output_row = OutputRows(weight);
  const DTypeInfo& type = InfoOf(state->dtype);
  const int64_t blocks = (weight.cols() + type.block_elems - 1) / type.block_elems;
  state->stored_cols = blocks * type.block_elems;
  // Types whose bytes are not whole rows, and sums on top of the stored value, go through DecodeTensor.
  if (weight.add != 0 || weight.view.row_bytes() != static_cast<uint64_t>(blocks) * type.block_bytes) return state;
  state->unpack = state->kernels->unpack_f32(state->dtype);
  if (context.precision == Precision::kFast) state->fast = state->kernels->fast(state->dtype);
  return state;
}

void LinearCpu(const OpContext<float>& context) {
  const auto& state = static_cast<const LinearState&>(*context.state);
  const WeightRef& weight = *context.weights[0];
  const int64_t rows = context.InputRows(0);
  const int64_t cols = context.InputWidth(0);
  const int64_t n_out = context.OutputWidth(0);
  for (int64_t t = 0; t < rows; t += kChunkTokens) {
    const Job job{.state = state,
                  .weight = weight,
                  .pool = context.pool,
                  .x = context.inputs[0].data() + t * cols,
                  .y = context.outputs[0].data() + t * n_out,
                  .tokens = std::min(kChunkTokens, rows - t),
                  .cols = cols,
                  .n_out = n_out,
                  .stride = static_cast<int64_t>(weight.view.row_bytes())};
    state.fast != nullptr ? RunFast(job) : RunExact(job);
  }
}

std::string LinearKernelName(const CpuState& cpu_state) {
  const auto& state = static_cast<const LinearState&>(cpu_state);
  const char* isa = IsaName(state.kernels->isa);
  if (state.fast != nullptr) return fmt::format("{} x int8, {}", NameOf(state.dtype), isa);
  std::string name = fmt::format("{} x f32, {}", NameOf(state.dtype), isa);
  if (state.unpack == nullptr) name += ", rows decoded one by one";
  if (state.precision == Precision::kFast && IsQuantized(state.dtype)) name += " (no int8 kernel of this type)";
  return name;
}

const LinearKernels& LinearKernelsFor(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAvx512Vnni: return LinearKernelsAvx512Vnni();
    case Isa::kAvx512: return LinearKernelsAvx512();
    case Isa::kAvx2: return LinearKernelsAvx2();
    default: return LinearKernelsScalar();
  }
#else
  APR_CHECK(isa == Isa::kScalar);
  return LinearKernelsScalar();
#endif
}

}  // namespace apr
