// See encode_stream.h.
#include "model/encode_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <future>

#include "base/error.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr int64_t kPieceElements = 1 << 15;
constexpr int64_t kPiecesPerThread = 16;

void EncodePiece(DType dtype, const float* values, int64_t rows, int64_t cols, const float* importance, std::byte* out) {
  if (dtype == DType::kF32) std::memcpy(out, values, static_cast<size_t>(rows * cols) * sizeof(float));
  else EncodeRows(dtype, values, rows, cols, importance, out);
}

// A value that was finite and is none any more in half precision.
void RequireInRange(const RowStream& s, const float* values, int64_t count) {
  if (s.dtype != DType::kF16) return;
  constexpr float kLargest = 65520;  // rounds to infinity from here on
  for (int64_t i = 0; i < count; ++i) {
    if (std::abs(values[i]) >= kLargest && std::isfinite(values[i])) {
      throw Error(ErrorCode::kValidationFailed, fmt::format("{} does not fit F16; BF16 or F32 holds it", values[i]), {.tensor = s.name});
    }
  }
}

// The types of .apr whose blocks ignore rows.
void EncodeWhole(const RowStream& s, const ByteSink& sink) {
  std::vector<float> values(static_cast<size_t>(s.rows * s.cols));
  for (int64_t r = 0; r < s.rows; ++r) s.read_row(r, values.data() + r * s.cols);
  std::vector<std::byte> bytes(*StorageBytes(s.dtype, Shape{s.rows, s.cols}));
  EncodeRows(s.dtype, values.data(), s.rows, s.cols, nullptr, bytes.data());
  sink(bytes);
}

}  // namespace

void EncodeStream(const RowStream& s, const EncodeContext& context, const ByteSink& sink) {
  if (s.rows == 0 || s.cols == 0) return;
  if (s.dtype == DType::kAprQ4 || s.dtype == DType::kAprQ8) return EncodeWhole(s, sink);
  const DTypeInfo& info = InfoOf(s.dtype);
  const int64_t block = info.block_elems;
  const int64_t padded = (s.cols + block - 1) / block * block;
  if (padded != s.cols && context.container != Container::kApr) {
    throw Error(ErrorCode::kValidationFailed, fmt::format("rows of {} are no whole blocks of {}", s.cols, NameOf(s.dtype)), {.tensor = s.name});
  }
  std::vector<float> importance;
  if (s.importance != nullptr && padded != s.cols) {
    importance.assign(s.importance, s.importance + s.cols);
    importance.resize(static_cast<size_t>(padded), 0.0f);
  }
  const float* weights = importance.empty() ? s.importance : importance.data();
  const int64_t row_bytes = padded / block * info.block_bytes;
  const int64_t piece = std::clamp<int64_t>(kPieceElements / padded, 1, s.rows);
  const int64_t threads = context.pool == nullptr ? 1 : context.pool->threads();
  const int64_t batch = std::min(s.rows, piece * (threads == 1 ? 1 : threads * kPiecesPerThread));
  EncodeBuffers fresh;
  EncodeBuffers& buffers = context.buffers ? *context.buffers : fresh;
  std::vector<std::vector<float>>& values = buffers.values;
  std::vector<std::byte>&bytes = buffers.bytes, &before = buffers.before;
  values.resize(std::max(values.size(), static_cast<size_t>(threads)));
  for (auto& buffer : values) {
    if (padded != s.cols) buffer.clear();  // what fills up a row is 0
    buffer.resize(std::max(buffer.size(), static_cast<size_t>(piece * padded)));
  }
  // One batch is written while the next is encoded.
  const bool two = threads > 1 && batch < s.rows;
  for (std::vector<std::byte>* each : {&bytes, &before}) each->resize(std::max(each->size(), static_cast<size_t>(batch * row_bytes)));
  std::future<void> writing;
  for (int64_t first = 0; first < s.rows; first += batch) {
    const int64_t count = std::min(batch, s.rows - first);
    const auto work = [&](int64_t begin, int64_t end, int thread) {
      float* buffer = values[static_cast<size_t>(thread)].data();
      for (int64_t r = begin; r < end; ++r) s.read_row(first + r, buffer + (r - begin) * padded);
      RequireInRange(s, buffer, (end - begin) * padded);
      EncodePiece(s.dtype, buffer, end - begin, padded, weights, bytes.data() + begin * row_bytes);
    };
    try {
      if (threads == 1) work(0, count, 0);
      else context.pool->ParallelFor(count, piece, work);
    } catch (const Error& e) {
      throw e.With({.tensor = s.name});
    }
    const Bytes encoded(bytes.data(), static_cast<size_t>(count * row_bytes));
    if (writing.valid()) writing.get();
    if (!two) {
      sink(encoded);
      continue;
    }
    writing = std::async(std::launch::async, [&sink, encoded] { sink(encoded); });
    bytes.swap(before);
  }
  if (writing.valid()) writing.get();
}

}  // namespace apr
