// See storage_errors.h.
#include "compare/storage_errors.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "quant/apr_native.h"
#include "quant/quant.h"

namespace apr {
namespace {

void Squares(std::span<const float> values, std::span<const float> stored, Errors& out) {
  for (size_t i = 0; i < values.size(); ++i) {
    const double d = static_cast<double>(stored[i]) - values[i];
    out[i] = d * d;
  }
}

void TypicalErrors(DType dtype, std::span<const float> values, Errors& out) {
  double square = 0;
  for (const float v : values) square += static_cast<double>(v) * v;
  const double typical = TypicalRelativeError(dtype);
  std::fill_n(out.begin(), values.size(), typical * typical * square / static_cast<double>(std::max<size_t>(values.size(), 1)));
}

// Blocks do not depend on each other: whole runs may share a row.
bool MayShareRow(DType dtype, std::span<const std::span<const float>> runs) {
  return !IsAprNative(dtype) && kChunk % InfoOf(dtype).block_elems == 0 && std::ranges::all_of(runs, [](const auto& run) { return run.size() == kChunk; });
}

}  // namespace

// By the largest of their bits without sign: no branch, several at a time.
bool AllFinite(std::span<const float> values) {
  int32_t most = 0;
  for (const float v : values) most = std::max(most, std::bit_cast<int32_t>(v) & 0x7FFFFFFF);
  return most < 0x7F800000;
}

std::optional<std::vector<float>> StoredAs(DType dtype, std::span<const float> values) {
  const auto count = static_cast<int64_t>(values.size());
  const std::optional<uint64_t> bytes = StorageBytes(dtype, Shape{1, count});
  if (!CanEncode(dtype) || !bytes || count % InfoOf(dtype).block_elems != 0 || dtype == DType::kAprQ8) return std::nullopt;
  if (!AllFinite(values)) return std::nullopt;
  try {
    std::vector<std::byte> encoded(*bytes);
    EncodeRows(dtype, values.data(), 1, count, nullptr, encoded.data());
    std::vector<float> decoded(values.size());
    DecodeTensor({dtype, Shape{1, count}, encoded}, decoded);
    return decoded;
  } catch (const Error&) {  // beyond the range of the type's scales
    return std::nullopt;
  }
}

void StorageErrors(DType dtype, std::span<const std::span<const float>> runs, std::span<Errors* const> out) {
  APR_CHECK(out.size() == runs.size());
  if (runs.size() > 1 && MayShareRow(dtype, runs)) {
    std::vector<float> row;
    row.reserve(runs.size() * kChunk);
    for (const auto& run : runs) row.insert(row.end(), run.begin(), run.end());
    if (const auto stored = StoredAs(dtype, row)) {
      for (size_t i = 0; i < runs.size(); ++i) Squares(runs[i], std::span(*stored).subspan(i * kChunk, kChunk), *out[i]);
      return;
    }
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    if (const auto stored = StoredAs(dtype, runs[i])) Squares(runs[i], *stored, *out[i]);
    else TypicalErrors(dtype, runs[i], *out[i]);
  }
}

double StorageError(DType dtype, std::span<const float> values, int64_t cols) {
  std::vector<std::span<const float>> runs;
  const auto row = static_cast<size_t>(cols);
  for (size_t first = 0; first + row <= values.size(); first += row) {
    for (size_t at = 0; at < row; at += kChunk) runs.push_back(values.subspan(first + at, std::min<size_t>(kChunk, row - at)));
  }
  double sum = 0;
  std::vector<Errors> errors(runs.size());
  std::vector<Errors*> out;
  for (Errors& each : errors) out.push_back(&each);
  StorageErrors(dtype, runs, out);
  for (size_t r = 0; r < runs.size(); ++r) {
    for (size_t i = 0; i < runs[r].size(); ++i) sum += errors[r][i];
  }
  return std::sqrt(sum / static_cast<double>(std::max<size_t>(values.size(), 1)));
}

}  // namespace apr
