// See weight_values.h.
#include "compare/weight_values.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "op/context.h"
#include "quant/apr_native.h"
#include "quant/decode_simd.h"
#include "quant/quant.h"

namespace apr {
namespace {

void ReadRows(const WeightRef& weight, int64_t first, int64_t count, float* out) {
  const auto cols = static_cast<size_t>(weight.cols());
  if (!weight.row_order) {
    const std::span<float> all(out, static_cast<size_t>(count) * cols);
    const bool whole = first == 0 && count == weight.rows();
    DecodeTensor(whole ? weight.view : weight.view.Rows(first, count), all);
    if (weight.add == 0) return;
    for (float& value : all) value = static_cast<float>(value + weight.add);
    return;
  }
  for (int64_t r = 0; r < count; ++r) ReadWeightRow(weight, first + r, std::span<float>(out + static_cast<size_t>(r) * cols, cols));
}

bool IsPlainF32(const WeightRef& weight) {
  return weight.view.dtype == DType::kF32 && !weight.row_order && weight.add == 0 &&
         reinterpret_cast<uintptr_t>(weight.view.bytes.data()) % alignof(float) == 0 &&
         weight.view.bytes.size() == static_cast<size_t>(weight.view.shape.num_elements()) * sizeof(float);
}

std::optional<RunType> PlainRuns(DType dtype) {
  switch (dtype) {
    case DType::kF32: return RunType::kF32;
    case DType::kF16: return RunType::kF16;
    case DType::kBF16: return RunType::kBF16;
    default: return std::nullopt;
  }
}

std::optional<PackedRuns> RunsOf(const WeightRef& weight) {
  constexpr int64_t kRun = 256;
  const DTypeInfo& info = InfoOf(weight.view.dtype);
  const int64_t cols = weight.cols();
  const RowDecoder decode = RowDecoderOf(weight.view.dtype);
  if (decode == nullptr || weight.add != 0 || cols % info.block_elems != 0 || kRun % info.block_elems != 0 || (weight.row_order && cols % kRun != 0)) return std::nullopt;
  const uint64_t bytes = static_cast<uint64_t>(weight.view.shape.num_elements()) / static_cast<uint64_t>(info.block_elems) * info.block_bytes;
  if (bytes != weight.view.bytes.size()) return std::nullopt;  // reading says what is wrong
  return PackedRuns{PlainRuns(weight.view.dtype), decode, weight.view.bytes.data(), kRun / info.block_elems * info.block_bytes, cols / kRun,
                    weight.row_order.get()};
}

}  // namespace

std::vector<float> WeightValues::Range(int64_t first, int64_t count) const {
  if (count == 0) return {};
  if (plain != nullptr) return {plain + first, plain + first + count};
  const int64_t top = first / cols;
  const int64_t end = (first + count + cols - 1) / cols;
  std::vector<float> rows_read(static_cast<size_t>((end - top) * cols));
  read(top, end - top, rows_read.data());
  const auto from = rows_read.begin() + (first - top * cols);
  return {from, from + count};
}

WeightValues ValuesOf(const WeightRef& weight) {
  WeightValues out;
  out.rows = weight.rows();
  out.cols = weight.cols();
  out.dtype = weight.view.dtype;
  out.shift = weight.add;
  out.grid = weight.grid;
  out.held = weight.Hold();
  if (IsAprNative(out.dtype)) {
    auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(out.elements()));
    DecodeTensor(weight.view, *values);
    const auto cols = static_cast<size_t>(out.cols);
    out.read = [values, cols, order = weight.row_order, add = weight.add](int64_t first, int64_t count, float* to) {
      for (int64_t r = 0; r < count; ++r) {
        const int64_t row = order ? (*order)[static_cast<size_t>(first + r)] : first + r;
        for (size_t c = 0; c < cols; ++c) *to++ = static_cast<float>((*values)[static_cast<size_t>(row) * cols + c] + add);
      }
    };
    return out;
  }
  out.runs = RunsOf(weight);
  if (IsPlainF32(weight)) out.plain = reinterpret_cast<const float*>(weight.view.bytes.data());
  out.read = [&weight](int64_t first, int64_t count, float* to) { ReadRows(weight, first, count, to); };
  return out;
}

WeightValues ValuesOf(std::shared_ptr<const std::vector<float>> values, int64_t rows, int64_t cols, DType dtype) {
  WeightValues out;
  out.rows = rows;
  out.cols = cols;
  out.dtype = dtype;
  out.plain = values->data();
  out.read = [values, cols](int64_t first, int64_t count, float* to) {
    std::memcpy(to, values->data() + first * cols, static_cast<size_t>(count * cols) * sizeof(float));
  };
  return out;
}

double TypicalError(DType dtype, const std::shared_ptr<const WeightGrid>& grid) {
  return grid ? grid->typical * grid->freedom : TypicalRelativeError(dtype);
}

int64_t RowsPerPiece(int64_t cols, int64_t elements) {
  if (cols <= 0) return 1;
  const int64_t step = 256 / std::gcd<int64_t>(cols, 256);  // rows that are whole runs of 256
  return std::max<int64_t>(1, elements / (cols * step)) * step;
}

}  // namespace apr
