// See weight_diff.h.
#include "compare/weight_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "compare/channel_scales.h"
#include "compare/storage_floor.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

std::string StatusOf(const ElementDiff& diff) {
  if (diff.count == 0) return "Critical";
  if (diff.max_abs == 0) return "Identical";
  if (diff.max_abs < 0.001) return "NearlyIdentical";
  if (diff.max_abs < 0.01) return "SmallDiff";
  if (diff.max_abs < 0.1) return "MediumDiff";
  return diff.max_abs < 1.0 ? "LargeDiff" : "Critical";
}

// Judges a row whose shapes agree.
void JudgeRow(WeightRow& row, const WeightPair& pair, ThreadPool& pool) {
  StorageJudgement judged = JudgeStorage(ValuesOf(pair.a), ValuesOf(pair.b), pool);
  row.diff = judged.diff;
  row.expected_rmse = judged.expected_rmse;
  row.ratio = judged.ratio;
  row.bad_runs = judged.bad_count;
  row.status = StatusOf(row.diff);
  const std::string types = TypesText(pair.a, pair.b);
  if (row.diff.is_identical()) {
    row.verdict = WeightVerdict::kIdentical;
    row.explanation = "every element is equal";
  } else if (judged.explained) {
    row.verdict = WeightVerdict::kExplained;
    row.explanation = fmt::format("{}: {:.2f} x the error these types must have", types, row.ratio);
  } else if (row.diff.has_nonfinite_difference()) {
    row.ratio = kUnbounded;
    row.explanation = fmt::format("NaN or infinity: {} and {} in A, {} and {} in B", row.diff.nan_a, row.diff.inf_a, row.diff.nan_b, row.diff.inf_b);
  } else if (judged.mean_explained) {
    row.explanation = fmt::format("{}: as close as the types allow but for {} of {} runs of 256 elements: {} against {}", types,
                                  judged.bad_count, judged.chunks, row.diff.a_at_max, row.diff.b_at_max);
  } else if (!judged.slope_explained && judged.ratio <= judged.ratio_limit) {
    row.explanation = fmt::format("{}: {:.2f} x the error these types must have, but B is {:.4g} x A on the whole, which storing does not explain", types, row.ratio, judged.slope);
  } else {
    row.ratio = row.expected_rmse > 0 ? row.diff.rmse() / row.expected_rmse : kUnbounded;
    row.explanation = std::isinf(row.ratio) ? fmt::format("{}: nothing may differ, yet {} of {} elements do", types, row.diff.count - row.diff.identical, row.diff.count)
                                            : fmt::format("{}: {:.1f} x the error these types must have", types, row.ratio);
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

WeightRow CompareWeights(const WeightPair& pair, bool transpose_aware, ThreadPool& pool) {
  WeightRow row;
  row.name = pair.name;
  row.name_a = pair.name_a;
  row.name_b = pair.name_b;
  row.dtype_a = pair.a.view.dtype;
  row.dtype_b = pair.b.view.dtype;
  row.stored_a = StoredText(pair.a);
  row.stored_b = StoredText(pair.b);
  row.shape_a = pair.a.view.shape;
  row.shape_b = pair.b.view.shape;
  const bool swapped = row.shape_a.ndim() == 2 && row.shape_b.ndim() == 2 && row.shape_a[0] == row.shape_b[1] &&
                       row.shape_a[1] == row.shape_b[0];
  if (!CanDecode(row.dtype_a) || !CanDecode(row.dtype_b)) {
    row.verdict = WeightVerdict::kShape;
    row.explanation = fmt::format("{} cannot be decoded", TypesText(pair.a, pair.b));
  } else if (row.shape_a == row.shape_b && row.shape_a.num_elements() > 0) {
    JudgeRow(row, pair, pool);
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
    progress.Add(pair.a.view.bytes.size());
  }
  if (options.filter.empty() && options.limit == 0) ExplainChannelScales(pairs, out.rows, pool);
  for (WeightRow& row : out.rows) {
    if (!options.threshold || row.verdict != WeightVerdict::kExplained || row.diff.cosine() >= *options.threshold) continue;
    row.verdict = WeightVerdict::kDifferent;
    row.explanation += fmt::format("; cosine {:.6f} is below {}", row.diff.cosine(), *options.threshold);
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
              {"dtype_a", stored_a},
              {"dtype_b", stored_b},
              {"shape_a", Json(std::vector<int64_t>(shape_a.dims().begin(), shape_a.dims().end()))},
              {"shape_b", Json(std::vector<int64_t>(shape_b.dims().begin(), shape_b.dims().end()))},
              {"verdict", WeightVerdictName(verdict)},
              {"explanation", explanation},
              {"expected_rmse", JsonNumber(expected_rmse)},
              {"error_ratio", JsonNumber(ratio)},
              {"bad_runs", bad_runs},
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
