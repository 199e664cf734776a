// See scan.h.
#include "quant/scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "quant/apr_native.h"
#include "quant/quant.h"
#include "quant/scan_kernels.h"
#include "quant/scan_specs.h"

namespace apr {
namespace {

constexpr int64_t kPieceElements = 1 << 20;  // decoded at a time
constexpr int64_t kSamplePlaces = 8;
constexpr int64_t kSampleRun = 256;          // elements per place

RunScanner ScannerOf(DType dtype) {
#if defined(__x86_64__)
  const Isa isa = ActiveIsa();
  if (isa >= Isa::kAvx512) return Avx512ScannerOf(dtype);
  if (isa >= Isa::kAvx2) return Avx2ScannerOf(dtype);
#endif
  return ScalarScannerOf(dtype);
}

// Bytes of a run of elements that begins and ends with blocks (the last one may be partly used).
uint64_t RunBytes(DType dtype, int64_t elements) {
  const DTypeInfo& info = InfoOf(dtype);
  const int64_t block = info.block_elems;
  return static_cast<uint64_t>((elements + block - 1) / block) * info.block_bytes;
}

// The whole tensor as one piece. Its bytes are checked against its shape.
ScanPiece WholePiece(const TensorView& view) {
  ScanPiece piece{view.dtype, view.rows(), view.cols(), 0, 0, view.bytes, true, 1};
  if (view.dtype == DType::kAprQ8) {
    if (StorageBytes(view.dtype, view.shape) != view.bytes.size()) FailSize(view);
    piece.scale = LoadLe<float>(view.bytes.data());
    piece.bytes = view.bytes.subspan(4);
    return piece;
  }
  const bool across_rows = view.dtype == DType::kAprQ4 && piece.rows > 1 && piece.cols % 32 != 0;
  if (across_rows || piece.rows == 1) {
    piece = {view.dtype, 1, view.shape.num_elements(), 0, 0, view.bytes, false, 1};
  }
  const auto bytes = CheckedMul(static_cast<uint64_t>(piece.rows), RunBytes(view.dtype, piece.cols));
  if (bytes != view.bytes.size()) FailSize(view);
  return piece;
}

// A row of nothing but zeros begins with some: the rest need be looked at only then.
bool BeginsWithZeros(const ScanPiece& piece, RunScanner scan, const std::byte* row) {
  const int64_t count = std::min<int64_t>(piece.cols, std::max<int64_t>(InfoOf(piece.dtype).block_elems, 4));
  RunCounts run;
  scan(row, count, run);
  return run.zeros == static_cast<uint64_t>(count);
}

void Add(ScanCounts& out, const RunCounts& run, int64_t first_element) {
  out.zeros += run.zeros;
  out.nan += run.nan;
  out.inf += run.inf;
  out.bad_scales += run.bad_scales;
  if (run.first_bad >= 0 && out.first_bad < 0) out.first_bad = first_element + run.first_bad;
}

std::span<const float> DecodeBlock(const BlockSpec& spec, const std::byte* block, std::array<float, 256>& values) {
  const std::span<float> out(values.data(), static_cast<size_t>(spec.elements));
  if (spec.dtype == DType::kAprQ4) DecodeAprQ4({block, static_cast<size_t>(spec.bytes)}, out);
  else DecodeRow(spec.dtype, block, spec.elements, values.data());
  return out;
}

}  // namespace

bool DecodesToZeros(const BlockSpec& spec, const std::byte* block) {
  std::array<float, 256> values;
  return std::ranges::all_of(DecodeBlock(spec, block, values), [](float x) { return x == 0; });
}

bool DecodesToFinite(const BlockSpec& spec, const std::byte* block) {
  std::array<float, 256> values;
  return std::ranges::all_of(DecodeBlock(spec, block, values), [](float x) { return std::isfinite(x); });
}

void ScanCounts::Merge(const ScanCounts& next) {
  elements += next.elements;
  zeros += next.zeros;
  nan += next.nan;
  inf += next.inf;
  bad_scales += next.bad_scales;
  zero_rows += next.zero_rows;
  if (first_bad < 0) first_bad = next.first_bad;
  if (first_zero_row < 0) first_zero_row = next.first_zero_row;
}

bool CanScan(DType dtype) { return ScalarScannerOf(dtype) != nullptr; }

std::vector<ScanPiece> ScanPieces(const TensorView& view, uint64_t piece_bytes) {
  if (!CanScan(view.dtype)) throw Error(ErrorCode::kNotBuilt, fmt::format("no scan for {}", NameOf(view.dtype)));
  std::vector<ScanPiece> out;
  if (view.shape.num_elements() == 0) return out;
  const ScanPiece whole = WholePiece(view);
  const uint64_t row_bytes = RunBytes(view.dtype, whole.cols);
  const DTypeInfo& info = InfoOf(view.dtype);
  // A single row is cut between blocks, several between rows.
  const bool cut_row = whole.rows == 1;
  const auto unit_bytes = cut_row ? info.block_bytes : row_bytes;
  const auto units = static_cast<int64_t>(whole.bytes.size() / unit_bytes);
  const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(piece_bytes / unit_bytes));
  for (int64_t at = 0; at < units; at += step) {
    const int64_t count = std::min(step, units - at);
    ScanPiece piece = whole;
    piece.bytes = whole.bytes.subspan(static_cast<uint64_t>(at) * unit_bytes, static_cast<uint64_t>(count) * unit_bytes);
    if (cut_row) {
      piece.first_element = at * info.block_elems;
      piece.cols = std::min<int64_t>(count * info.block_elems, whole.cols - piece.first_element);
    } else {
      piece.first_row = at;
      piece.first_element = at * whole.cols;
      piece.rows = count;
    }
    out.push_back(piece);
  }
  return out;
}

ScanCounts Scan(const ScanPiece& piece) {
  const RunScanner scan = ScannerOf(piece.dtype);
  APR_CHECK(scan != nullptr);
  ScanCounts out;
  out.elements = static_cast<uint64_t>(piece.rows * piece.cols);
  if (!std::isfinite(piece.scale)) {
    out.bad_scales = piece.first_element == 0 ? 1 : 0;
    (std::isnan(piece.scale) ? out.nan : out.inf) = out.elements;
    out.first_bad = piece.first_element;
    return out;
  }
  const uint64_t row_bytes = RunBytes(piece.dtype, piece.cols);
  const bool touching = piece.scale != 0 && piece.cols % InfoOf(piece.dtype).block_elems == 0;
  if (touching) {  // rows without padding are one run
    RunCounts run;
    scan(piece.bytes.data(), piece.rows * piece.cols, run);
    Add(out, run, piece.first_element);
    if (!piece.has_rows || run.zeros < static_cast<uint64_t>(piece.cols)) return out;
  }
  for (int64_t row = 0; row < piece.rows; ++row) {
    const std::byte* bytes = piece.bytes.data() + static_cast<uint64_t>(row) * row_bytes;
    RunCounts run;
    if (piece.scale == 0) run.zeros = static_cast<uint64_t>(piece.cols);
    else if (!touching || BeginsWithZeros(piece, scan, bytes)) scan(bytes, piece.cols, run);
    if (!touching) Add(out, run, piece.first_element + row * piece.cols);
    if (!piece.has_rows || run.zeros != static_cast<uint64_t>(piece.cols)) continue;
    ++out.zero_rows;
    if (out.first_zero_row < 0) out.first_zero_row = piece.first_row + row;
  }
  return out;
}

void ForEachDecodedPiece(const TensorView& view, const std::function<void(std::span<const float>)>& use) {
  std::vector<float> values;
  const auto whole = StorageBytes(view.dtype, view.shape);
  const bool by_rows = whole && *whole == view.bytes.size() && !IsAprNative(view.dtype);
  const int64_t rows = view.rows();
  const int64_t step = by_rows && view.cols() > 0 ? std::max<int64_t>(1, kPieceElements / view.cols()) : std::max<int64_t>(rows, 1);
  for (int64_t at = 0; at < rows; at += step) {
    const TensorView piece = by_rows ? view.Rows(at, std::min(step, rows - at)) : view;
    values.resize(static_cast<size_t>(piece.shape.num_elements()));
    DecodeTensor(piece, values);
    use(values);
  }
}

Statistics DecodedStatistics(const TensorView& view) {
  StatisticsBuilder builder;
  ForEachDecodedPiece(view, [&](std::span<const float> values) { builder.Add(values); });
  return builder.Finish();
}

Statistics SampledStatistics(const TensorView& view) {
  const ScanPiece whole = WholePiece(view);
  const int64_t elements = whole.rows * whole.cols;
  if (elements <= kSamplePlaces * kSampleRun) return DecodedStatistics(view);
  StatisticsBuilder builder;
  std::vector<float> values;
  const int64_t block = InfoOf(view.dtype).block_elems;
  const uint64_t row_bytes = RunBytes(view.dtype, whole.cols);
  for (int64_t place = 0; place < kSamplePlaces; ++place) {
    // A run inside one row, at a block's start; the place of the run within its row moves along.
    const int64_t first = static_cast<int64_t>(static_cast<double>(elements) * (static_cast<double>(place) + 0.5) / kSamplePlaces);
    const int64_t row = first / whole.cols;
    const int64_t col = first % whole.cols / block * block;
    const int64_t count = std::min(kSampleRun, whole.cols - col);
    const uint64_t at = static_cast<uint64_t>(row) * row_bytes + RunBytes(view.dtype, col);
    values.resize(static_cast<size_t>(count));
    if (view.dtype == DType::kAprQ8) {
      std::vector<std::byte> part(4 + static_cast<size_t>(count));
      StoreLe(part.data(), whole.scale);
      std::copy_n(whole.bytes.begin() + static_cast<ptrdiff_t>(at), count, part.begin() + 4);
      DecodeTensor({view.dtype, Shape{count}, part}, values);
    } else {
      DecodeTensor({view.dtype, Shape{count}, whole.bytes.subspan(at, RunBytes(view.dtype, count))}, values);
    }
    builder.Add(std::span<const float>(values));
  }
  return builder.Finish();
}

}  // namespace apr
