// See stored_rows.h.
#include "model/stored_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/thread_pool.h"
#include "format/packed_weights.h"
#include "quant/block_step.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr uint64_t kSmall = 64 << 10;  // copies below this size are made at once: a mapping each would cost more

// Column first + i * step of a [rows, cols] matrix to row i, a square of elements at a time.
template <typename T>
void CopyTurned(const std::byte* from, int64_t rows, int64_t cols, int64_t first, int64_t step, std::span<std::byte> out) {
  constexpr int64_t kSide = 32;
  const auto count = static_cast<int64_t>(out.size() / sizeof(T)) / std::max<int64_t>(1, rows);
  for (int64_t r0 = 0; r0 < rows; r0 += kSide) {
    for (int64_t c0 = 0; c0 < count; c0 += kSide) {
      for (int64_t c = c0; c < std::min(c0 + kSide, count); ++c) {
        for (int64_t r = r0; r < std::min(r0 + kSide, rows); ++r) {
          std::memcpy(out.data() + static_cast<size_t>(c * rows + r) * sizeof(T), from + static_cast<size_t>(r * cols + first + c * step) * sizeof(T), sizeof(T));
        }
      }
    }
  }
}

void CopyTurned(size_t element, const std::byte* from, int64_t rows, int64_t cols, int64_t first, int64_t step, std::span<std::byte> out) {
  if (element == 1) return CopyTurned<uint8_t>(from, rows, cols, first, step, out);
  if (element == 2) return CopyTurned<uint16_t>(from, rows, cols, first, step, out);
  if (element == 4) return CopyTurned<uint32_t>(from, rows, cols, first, step, out);
  return CopyTurned<uint64_t>(from, rows, cols, first, step, out);
}

// Where the rows are rows of the packed weight as they stand.
std::shared_ptr<const WeightGrid> PackedGrid(std::shared_ptr<const PackedWeight> packed, int64_t top) {
  auto grid = std::make_shared<WeightGrid>();
  grid->name = packed->stored_as();
  grid->typical = packed->typical_error();
  grid->freedom = packed->scheme == std::string_view("gptq") ? 2.0 : 1.0;
  grid->steps = [packed, top](int64_t first, int64_t count, float* steps) {
    packed->DecodeRows(top + first, count, {steps, static_cast<size_t>(count * packed->shape.cols())}, PackedRead::kSteps);
  };
  return grid;
}

}  // namespace

StoredRows::StoredRows(const ModelFile& file, const TensorInfo& info)
    : file_(file.files()[static_cast<size_t>(info.file)].get()), name_(info.name), layout_(file.Layout(info)), packed_(info.packed), begin_(layout_.bytes.data()) {}

// A vector of a block type has no elements to point at. (Rows of .apr may be padded to whole blocks.)
void StoredRows::RequireRows() const {
  if (rows() == 0 || layout_.bytes.size() % static_cast<uint64_t>(rows()) == 0) return;
  throw Error(ErrorCode::kModelLoad, fmt::format("a vector of {} cannot be taken apart", NameOf(dtype())));
}

uint64_t StoredRows::PackedRowBytes() const { return std::max<uint64_t>(1, *StorageBytes(packed_->dtype(), Shape{packed_->shape.cols()})); }
int64_t StoredRows::PackedRow(const std::byte* place) const { return (place - begin_) / static_cast<int64_t>(PackedRowBytes()); }

StoredRows StoredRows::As(const Shape& shape) const {
  StoredRows out = *this;
  out.layout_.shape = shape;
  return out;
}

StoredRows StoredRows::Part(int64_t first, int64_t count, const Shape& shape) const {
  RequireRows();
  StoredRows out = *this;
  out.layout_ = layout_.Rows(first, count);
  out.layout_.shape = shape;
  return out;
}

void StoredRows::Read(int64_t first, int64_t count, std::span<std::byte> out) const {
  if (packed_ == nullptr) {
    const auto held = Hold();
    const Bytes from = layout_.Rows(first, count).bytes;
    std::copy(from.begin(), from.end(), out.begin());
    return;
  }
  const uint64_t row = PackedRowBytes();
  const int64_t top = PackedRow(layout_.Rows(first, count).bytes.data()), rows = static_cast<int64_t>(out.size() / row);
  const auto read = [&](int64_t begin, int64_t end, int) {
    packed_->ReadRows(top + begin, end - begin, out.subspan(static_cast<size_t>(begin) * row, static_cast<size_t>(end - begin) * row));
  };
  constexpr size_t kWorthThreads = 1 << 20;
  if (out.size() < kWorthThreads) return read(0, rows, 0);
  ThreadPool pool(ThreadPool::HardwareThreads());
  pool.ParallelFor(rows, 16, read);
}

WeightRef StoredRows::Computed(DType dtype, const Shape& shape, uint64_t bytes, ComputedBytes::Compute compute) const {
  WeightRef out;
  const auto named = [compute = std::move(compute), file = file_->path(), name = name_](std::span<std::byte> to) {
    try {
      compute(to);
    } catch (const Error& error) {
      throw error.With({.file = file, .tensor = name});
    }
  };
  if (bytes < kSmall && packed_ == nullptr && computed_ == nullptr && StorageBytes(dtype, shape) == bytes) {
    auto tensor = std::make_shared<Tensor>(dtype, shape);
    named(tensor->mutable_bytes());
    out.view = tensor->view();
    out.owned = std::move(tensor);
    return out;
  }
  out.computed = ComputedBytes::Reserve(file_->path(), bytes, named);
  out.view = {dtype, shape, out.computed->bytes()};
  return out;
}

WeightRef StoredRows::InPlace() const {
  if (packed_ == nullptr) {
    WeightRef out{.view = layout_, .computed = computed_};
    if (computed_) out.grid = Grid(shape().cols(), [](int64_t row, int64_t col) { return std::pair{row, col}; });
    return out;
  }
  WeightRef out = Computed(dtype(), shape(), layout_.bytes.size(), [rows = *this](std::span<std::byte> to) { rows.Read(0, rows.rows(), to); });
  if (dtype() == DType::kF32 && shape().ndim() == 2) out.grid = PackedGrid(packed_, PackedRow(layout_.bytes.data()));
  return out;
}

WeightRef StoredRows::Gathered(std::vector<int64_t> order, const Shape& shape) const {
  RequireRows();
  const uint64_t bytes = order.size() * layout_.row_bytes();
  std::shared_ptr<const WeightGrid> grid;
  if (computed_ && shape.ndim() == 1) grid = Grid(shape.cols(), [order](int64_t, int64_t col) { return std::pair{order[static_cast<size_t>(col)], int64_t{0}}; });
  else if (computed_) grid = Grid(shape.cols(), [order](int64_t row, int64_t col) { return std::pair{order[static_cast<size_t>(row)], col}; });
  WeightRef out = Computed(dtype(), shape, bytes, [rows = *this, order = std::move(order)](std::span<std::byte> to) {
    const size_t stride = rows.layout_.row_bytes();
    for (size_t first = 0; first < order.size();) {
      size_t count = 1;
      while (first + count < order.size() && order[first + count] == order[first] + static_cast<int64_t>(count)) ++count;
      rows.Read(order[first], static_cast<int64_t>(count), to.subspan(first * stride, count * stride));
      first += count;
    }
  });
  out.grid = std::move(grid);
  return out;
}

std::vector<std::byte> StoredRows::ReadDecoded(DType& dtype) const {
  std::vector<std::byte> stored;
  TensorView view = layout_;
  if (packed_ != nullptr) {
    stored.resize(layout_.bytes.size());
    Read(0, rows(), stored);
    view.bytes = stored;
  }
  if (InfoOf(dtype).block_elems == 1 && dtype != DType::kAprQ8) return stored;
  std::vector<std::byte> values(static_cast<size_t>(view.shape.num_elements()) * sizeof(float));
  DecodeTensor(view, {reinterpret_cast<float*>(values.data()), values.size() / sizeof(float)});
  dtype = DType::kF32;
  return values;
}

WeightRef StoredRows::Turned(int64_t first, int64_t step, const Shape& shape) const {
  const bool blocks = InfoOf(dtype()).block_elems > 1 || dtype() == DType::kAprQ8;
  const DType made = blocks ? DType::kF32 : dtype();
  WeightRef out = Computed(made, shape, static_cast<uint64_t>(shape.num_elements()) * InfoOf(made).block_bytes, [rows = *this, first, step](std::span<std::byte> to) {
    const auto held = rows.Hold();
    DType dtype = rows.dtype();
    const std::vector<std::byte> values = rows.ReadDecoded(dtype);
    const std::byte* from = values.empty() ? rows.layout_.bytes.data() : values.data();
    CopyTurned(static_cast<size_t>(InfoOf(dtype).block_bytes), from, rows.rows(), rows.shape().cols(), first, step, to);
  });
  if ((blocks && packed_ == nullptr) || computed_) {
    out.grid = Grid(rows(), [first, step](int64_t row, int64_t col) { return std::pair{col, first + row * step}; });
  }
  return out;
}

float StoredRows::Step(int64_t row, int64_t col) const {
  if (!computed_) return StepAt(layout_, row, col);
  const auto flat = (layout_.bytes.data() - computed_->bytes().data()) / static_cast<int64_t>(sizeof(float)) + row * shape().cols() + col;
  return StepAt(decoded_from_, 0, flat);
}

std::shared_ptr<const WeightGrid> StoredRows::Grid(int64_t cols, Places at) const {
  auto grid = std::make_shared<WeightGrid>();
  const DType stored = computed_ ? decoded_from_.dtype : dtype();
  grid->name = NameOf(stored);
  grid->typical = TypicalRelativeError(stored);
  grid->steps = [rows = *this, cols, at = std::move(at)](int64_t first, int64_t count, float* steps) {
    for (int64_t row = first; row < first + count; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        const auto [r, c] = at(row, col);
        *steps++ = rows.Step(r, c);
      }
    }
  };
  return grid;
}

StoredRows StoredRows::Decoded() const {
  StoredRows out = *this;
  out.computed_ = ComputedBytes::Reserve(file_->path(), *StorageBytes(DType::kF32, shape()), [from = layout_](std::span<std::byte> to) {
    DecodeTensor(from, {reinterpret_cast<float*>(to.data()), to.size() / sizeof(float)});
  });
  out.layout_ = {DType::kF32, shape(), out.computed_->bytes()};
  out.decoded_from_ = layout_;
  return out;
}

}  // namespace apr
