// See weight_diff.h.
#include "compare/weight_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Two encoders of one type differ a little in the error they leave, more so with importance weights;
// a wrong tensor, a wrong type or a permutation is far beyond.
constexpr double kExplainedRatio = 2.0;
// The largest single error against the largest that storing the same row causes.
constexpr double kExplainedPeak = 4.0;

// Rows that are read at a time.
int64_t RowsPerPiece(int64_t cols) { return std::max<int64_t>(1, 65536 / std::max<int64_t>(cols, 1)); }

void ReadRows(const WeightRef& weight, int64_t first, int64_t count, std::vector<float>& out) {
  const int64_t cols = weight.cols();
  out.resize(static_cast<size_t>(count * cols));
  for (int64_t r = 0; r < count; ++r) {
    ReadWeightRow(weight, first + r, std::span<float>(out).subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols)));
  }
}

// Elements of both sides, in canonical order, in pieces that are merged in order.
ElementDiff CompareElements(const WeightRef& a, const WeightRef& b, ThreadPool& pool) {
  const int64_t piece = RowsPerPiece(a.cols());
  const int64_t pieces = (a.rows() + piece - 1) / piece;
  std::vector<ElementDiff> parts(static_cast<size_t>(pieces));
  pool.ParallelFor(pieces, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<float> left, right;
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = p * piece;
      const int64_t count = std::min(piece, a.rows() - first);
      ReadRows(a, first, count, left);
      ReadRows(b, first, count, right);
      Accumulate(parts[static_cast<size_t>(p)], left, right, first * a.cols());
    }
  });
  ElementDiff out;
  for (const ElementDiff& part : parts) Merge(out, part);
  return out;
}

struct Expected {
  double rmse = 0;
  double peak = 0;  // largest single error in the row of the worst element
};

// What storing `values` as `dtype` does to them: encoded by this project's own encoder.
Expected MeasureStorage(DType dtype, std::span<const float> values, int64_t cols) {
  if (dtype == DType::kF32 || dtype == DType::kF64) return {};
  const auto rows = static_cast<int64_t>(values.size()) / cols;
  const std::optional<uint64_t> bytes = StorageBytes(dtype, Shape{rows, cols});
  double square = 0;
  for (const float v : values) square += static_cast<double>(v) * v;
  if (!CanEncode(dtype) || !bytes) {
    const double rms = std::sqrt(square / static_cast<double>(std::max<size_t>(values.size(), 1)));
    return {TypicalRelativeError(dtype) * rms, 8 * TypicalRelativeError(dtype) * rms};
  }
  std::vector<std::byte> encoded(*bytes);
  EncodeRows(dtype, values.data(), rows, cols, nullptr, encoded.data());
  std::vector<float> decoded(values.size());
  DecodeTensor({dtype, Shape{rows, cols}, encoded}, decoded);
  ElementDiff diff;
  Accumulate(diff, values, decoded, 0);
  return {diff.rmse(), diff.max_abs};
}

// Rows spread over the tensor on which the storage error is measured.
std::vector<float> SampleRows(const WeightRef& weight) {
  constexpr int64_t kSampleElements = 32768;
  const int64_t cols = weight.cols();
  const int64_t want = std::clamp<int64_t>(kSampleElements / std::max<int64_t>(cols, 1), 1, weight.rows());
  std::vector<float> out, row;
  for (int64_t i = 0; i < want; ++i) {
    ReadRows(weight, i * weight.rows() / want, 1, row);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// The error that A's and B's types explain together: each is measured on the other side's values, which
// carry the finer type's information; f32 rounding of an offset counts too.
Expected ExpectedError(const WeightRef& a, const WeightRef& b, std::span<const float> values_a,
                       std::span<const float> values_b, int64_t cols) {
  Expected out;
  if (!AllFinite(values_a) || !AllFinite(values_b)) return out;
  const Expected of_b = MeasureStorage(b.view.dtype, values_a, cols);
  const Expected of_a = MeasureStorage(a.view.dtype, values_b, cols);
  double rounding = 0;
  if (a.add != 0 || b.add != 0) {
    float top = 0;
    for (const float v : values_a) top = std::max(top, std::abs(v));
    rounding = 0x1p-24 * (1 + top);
  }
  out.rmse = std::sqrt(of_a.rmse * of_a.rmse + of_b.rmse * of_b.rmse + rounding * rounding);
  out.peak = of_a.peak + of_b.peak + 2 * rounding;
  return out;
}

std::string StatusOf(const ElementDiff& diff) {
  if (diff.count == 0) return "Critical";
  if (diff.max_abs == 0) return "Identical";
  if (diff.max_abs < 0.001) return "NearlyIdentical";
  if (diff.max_abs < 0.01) return "SmallDiff";
  if (diff.max_abs < 0.1) return "MediumDiff";
  return diff.max_abs < 1.0 ? "LargeDiff" : "Critical";
}

std::string TypesText(const WeightRow& row) {
  return row.dtype_a == row.dtype_b ? std::string(NameOf(row.dtype_a)) : fmt::format("{} against {}", NameOf(row.dtype_a), NameOf(row.dtype_b));
}

// Judges a row whose elements were compared.
void Judge(WeightRow& row, const WeightPair& pair) {
  if (row.diff.is_identical()) {
    row.verdict = WeightVerdict::kIdentical;
    row.explanation = "every element is equal";
    return;
  }
  if (row.diff.has_nonfinite_difference()) {
    row.ratio = kInfinity;
    row.explanation = fmt::format("NaN or infinity: {} and {} in A, {} and {} in B", row.diff.nan_a, row.diff.inf_a, row.diff.nan_b, row.diff.inf_b);
    return;
  }
  const int64_t cols = pair.a.cols();
  const Expected expected = ExpectedError(pair.a, pair.b, SampleRows(pair.a), SampleRows(pair.b), cols);
  row.expected_rmse = expected.rmse;
  row.ratio = expected.rmse > 0 ? row.diff.rmse() / expected.rmse : kInfinity;
  std::vector<float> worst_a, worst_b;
  ReadRows(pair.a, row.diff.max_index / cols, 1, worst_a);
  ReadRows(pair.b, row.diff.max_index / cols, 1, worst_b);
  const double peak = ExpectedError(pair.a, pair.b, worst_a, worst_b, cols).peak;
  const bool few = row.ratio <= kExplainedRatio && row.diff.max_abs > kExplainedPeak * peak;
  if (row.ratio <= kExplainedRatio && !few) {
    row.verdict = WeightVerdict::kExplained;
    row.explanation = fmt::format("{}: {:.2f} x the error these types must have", TypesText(row), row.ratio);
  } else if (few) {
    row.explanation = fmt::format("{}: as close as the types allow but for single elements: {} against {}", TypesText(row), row.diff.a_at_max, row.diff.b_at_max);
  } else if (expected.rmse == 0) {
    row.explanation = fmt::format("{}: nothing may differ, yet {} of {} elements do", TypesText(row), row.diff.count - row.diff.identical, row.diff.count);
  } else {
    row.explanation = fmt::format("{}: {:.1f} x the error these types must have", TypesText(row), row.ratio);
  }
}

// Two matrices whose dims are swapped: equal in linear order, or each other's transpose?
void JudgeSwapped(WeightRow& row, const WeightPair& pair, bool transpose_aware) {
  const std::vector<float> a = ReadWeightF32(pair.a);
  std::vector<float> b = ReadWeightF32(pair.b);
  Accumulate(row.diff, a, b, 0);
  const bool linear = static_cast<double>(row.diff.identical) > 0.99 * static_cast<double>(row.diff.count);
  if (!linear && transpose_aware) {
    const int64_t rows = row.shape_b[0];
    const int64_t cols = row.shape_b[1];
    std::vector<float> turned(b.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) turned[static_cast<size_t>(c * rows + r)] = b[static_cast<size_t>(r * cols + c)];
    }
    row.diff = {};
    Accumulate(row.diff, a, turned, 0);
  }
  if (static_cast<double>(row.diff.identical) > 0.99 * static_cast<double>(row.diff.count)) {
    row.verdict = WeightVerdict::kTransposed;
    row.status = "Transposed";
    row.explanation = linear ? "the same values in the same order under swapped dims" : "B is the transpose of A";
    return;
  }
  row.explanation = fmt::format("shape {} against {}, and {}", row.shape_a.ToString(), row.shape_b.ToString(),
                                transpose_aware ? "the values differ transposed too" : "the values differ in linear order");
}

}  // namespace

const char* WeightVerdictName(WeightVerdict verdict) {
  switch (verdict) {
    case WeightVerdict::kIdentical: return "identical";
    case WeightVerdict::kExplained: return "explained";
    case WeightVerdict::kDifferent: return "different";
    case WeightVerdict::kShape: return "shape";
    case WeightVerdict::kTransposed: return "transposed";
  }
  return "?";
}

double StorageError(DType dtype, std::span<const float> values, int64_t cols) {
  return MeasureStorage(dtype, values, cols).rmse;
}

WeightRow CompareWeights(const WeightPair& pair, bool transpose_aware, ThreadPool& pool) {
  WeightRow row;
  row.name = pair.name;
  row.name_a = pair.name_a;
  row.name_b = pair.name_b;
  row.dtype_a = pair.a.view.dtype;
  row.dtype_b = pair.b.view.dtype;
  row.shape_a = pair.a.view.shape;
  row.shape_b = pair.b.view.shape;
  const bool swapped = row.shape_a.ndim() == 2 && row.shape_b.ndim() == 2 && row.shape_a[0] == row.shape_b[1] &&
                       row.shape_a[1] == row.shape_b[0];
  if (!CanDecode(row.dtype_a) || !CanDecode(row.dtype_b)) {
    row.verdict = WeightVerdict::kShape;
    row.explanation = fmt::format("{} cannot be decoded", TypesText(row));
  } else if (row.shape_a == row.shape_b && row.shape_a.num_elements() > 0) {
    row.diff = CompareElements(pair.a, pair.b, pool);
    row.status = StatusOf(row.diff);
    Judge(row, pair);
    return row;
  } else if (swapped) {
    JudgeSwapped(row, pair, transpose_aware);
  } else {
    row.verdict = WeightVerdict::kShape;
    row.explanation = row.shape_a == row.shape_b ? "holds no elements: nothing was compared"
                                                 : fmt::format("shape {} against {}", row.shape_a.ToString(), row.shape_b.ToString());
  }
  if (row.status.empty()) row.status = "Critical";
  return row;
}

WeightDiff DiffWeights(const WeightPairs& pairs, const WeightDiffOptions& options, ThreadPool& pool) {
  WeightDiff out;
  out.model_a = pairs.file_a->path();
  out.model_b = pairs.file_b->path();
  out.basis = pairs.basis;
  const auto wanted = [&](const std::string& name) { return name.find(options.filter) != std::string::npos; };
  for (const std::string& name : pairs.only_a) {
    if (wanted(name)) out.only_a.push_back(name);
  }
  for (const std::string& name : pairs.only_b) {
    if (wanted(name)) out.only_b.push_back(name);
  }
  uint64_t total = 0;
  for (const WeightPair& pair : pairs.pairs) total += pair.a.view.bytes.size();
  Progress progress("comparing weights", total);
  for (const WeightPair& pair : pairs.pairs) {
    if (!wanted(pair.name)) continue;
    if (options.limit > 0 && static_cast<int64_t>(out.rows.size()) >= options.limit) break;
    out.rows.push_back(CompareWeights(pair, options.transpose_aware, pool));
    WeightRow& row = out.rows.back();
    if (options.threshold && row.verdict == WeightVerdict::kExplained && !(row.diff.cosine() >= *options.threshold)) {
      row.verdict = WeightVerdict::kDifferent;
      row.explanation += fmt::format("; cosine {:.6f} is below {}", row.diff.cosine(), *options.threshold);
    }
    progress.Add(pair.a.view.bytes.size());
  }
  return out;
}

bool WeightDiff::agree() const {
  return !rows.empty() && only_a.empty() && only_b.empty() && std::all_of(rows.begin(), rows.end(), [](const WeightRow& row) {
    return row.verdict == WeightVerdict::kIdentical || row.verdict == WeightVerdict::kExplained;
  });
}

std::vector<int64_t> WeightRow::Coordinate() const {
  if (diff.max_index < 0) return {};
  std::vector<int64_t> out(static_cast<size_t>(shape_a.ndim()));
  int64_t rest = diff.max_index;
  for (int i = shape_a.ndim() - 1; i >= 0; --i) {
    out[static_cast<size_t>(i)] = rest % shape_a[i];
    rest /= shape_a[i];
  }
  return out;
}

Json WeightRow::ToJson() const {
  Json out = {{"name", name},
              {"name_a", name_a},
              {"name_b", name_b},
              {"dtype_a", NameOf(dtype_a)},
              {"dtype_b", NameOf(dtype_b)},
              {"shape_a", Json(std::vector<int64_t>(shape_a.dims().begin(), shape_a.dims().end()))},
              {"shape_b", Json(std::vector<int64_t>(shape_b.dims().begin(), shape_b.dims().end()))},
              {"verdict", WeightVerdictName(verdict)},
              {"explanation", explanation},
              {"expected_rmse", JsonNumber(expected_rmse)},
              {"error_ratio", JsonNumber(ratio)},
              {"coordinate", Coordinate()},
              {"status", status}};
  out.update(diff.ToJson());
  return out;
}

Json WeightDiff::ToJson() const {
  Json results = Json::array();
  int64_t identical = 0, transposed = 0, critical = 0, large = 0, medium = 0, different = 0;
  for (const WeightRow& row : rows) {
    identical += row.status == "Identical" || row.status == "NearlyIdentical";
    transposed += row.status == "Transposed";
    critical += row.status == "Critical";
    large += row.status == "LargeDiff";
    medium += row.status == "MediumDiff";
    different += row.verdict != WeightVerdict::kIdentical && row.verdict != WeightVerdict::kExplained;
    results.push_back(row.ToJson());
  }
  return {{"schema", "apr-weight-diff-v1"},
          {"model_a", model_a},
          {"model_b", model_b},
          {"basis", basis},
          {"agree", agree()},
          {"tensors_compared", rows.size()},
          {"different_count", different},
          {"identical_count", identical},
          {"transposed_count", transposed},
          {"critical_count", critical},
          {"large_count", large},
          {"medium_count", medium},
          {"only_a", only_a},
          {"only_b", only_b},
          {"results", results}};
}

}  // namespace apr
