// See stage_diff.h.
#include "compare/stage_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/json.h"

namespace apr {
namespace {

constexpr std::string_view kCausalOrder[] = {
    "embedding", "attn_norm", "qkv_matmul", "qkv_bias", "q_norm", "k_norm", "q_post_rope", "k_post_rope",
    "attn_scores", "attn_softmax", "attention", "attn_out", "post_attn_norm", "post_attn_residual", "ffn_norm",
    "moe_router_logits", "moe_router", "moe_router_indices", "ffn_gate", "ffn_up", "ffn_silu", "ffn_swigl",
    "ffn_out", "moe_ffn_out", "post_ffn_norm", "post_ffn_residual", "final_norm", "lm_head"};

double Distance(float a, float b) {
  const double d = std::abs(static_cast<double>(a) - static_cast<double>(b));
  return std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
}

std::vector<TopDiff> LargestDiffs(const std::vector<float>& a, const std::vector<float>& b, int64_t limit) {
  std::vector<int64_t> order(a.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  const auto keep = std::min<size_t>(order.size(), static_cast<size_t>(std::max<int64_t>(limit, 1)));
  const auto distance = [&](int64_t i) { return Distance(a[static_cast<size_t>(i)], b[static_cast<size_t>(i)]); };
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(keep), order.end(), [&](int64_t x, int64_t y) {
    return distance(x) != distance(y) ? distance(x) > distance(y) : x < y;
  });
  std::vector<TopDiff> out;
  for (size_t i = 0; i < keep; ++i) {
    const auto at = static_cast<size_t>(order[i]);
    out.push_back({order[i], a[at], b[at], distance(order[i])});
  }
  return out;
}

// What one run's declared formats may contribute to the relative error of a stage: coarse bounds with
// room for growth through the layers; op-by-op judgement is the bisection's business.
double FormatTolerance(const StageManifest& manifest) {
  double worst = 1e-4;  // f32 and f64 activations
  for (const std::string& name : {manifest.precision.activations, manifest.precision.accumulate}) {
    if (name == "bf16") worst = std::max(worst, 0.1);
    else if (name == "f16") worst = std::max(worst, 0.02);
    else if (name == "int8" || name == "f8") worst = std::max(worst, 0.2);
  }
  return worst;
}

std::map<std::string, const StageEntry*> ByName(const StageDirectory& directory) {
  std::map<std::string, const StageEntry*> out;
  for (const StageEntry& entry : directory.stages()) out[entry.name] = &entry;
  return out;
}

void CompareRow(StageRow& row, const StageDirectory& a, const StageEntry& entry_a, const StageDirectory& b,
                const StageEntry& entry_b) {
  row.shape = entry_a.shape ? entry_a.shape : entry_b.shape;
  if (entry_a.shape && entry_b.shape && !(*entry_a.shape == *entry_b.shape)) {
    row.problem = fmt::format("shape {} against {}", entry_a.shape->ToString(), entry_b.shape->ToString());
    return;
  }
  try {
    const StageFile file_a = a.Read(entry_a);
    const StageFile file_b = b.Read(entry_b);
    if (file_a.values.size() != file_b.values.size()) {
      row.problem = fmt::format("{} values against {}", file_a.values.size(), file_b.values.size());
      return;
    }
    if (file_a.values.empty()) {
      row.problem = "holds no values";
      return;
    }
    Accumulate(row.diff, file_a.values, file_b.values, 0);
    row.agrees = row.diff.relative_error() <= row.tolerance;
  } catch (const Error& e) {
    row.problem = e.what();
  }
}

}  // namespace

int CausalRank(std::string_view stage) {
  const auto* at = std::find(std::begin(kCausalOrder), std::end(kCausalOrder), stage);
  return static_cast<int>(at - std::begin(kCausalOrder));
}

bool CausallyBefore(const StageName& a, const StageName& b) {
  // The embedding is filed under layer 0 and comes first anyway; whole-model stages come last because
  // their layer number is the largest.
  if (a.layer != b.layer) return a.layer < b.layer;
  const int rank_a = CausalRank(a.stage);
  const int rank_b = CausalRank(b.stage);
  return rank_a != rank_b ? rank_a < rank_b : a.stage < b.stage;
}

StageFileDiff DiffStageFiles(const std::string& path_a, const std::string& path_b, int64_t limit) {
  const StageFile a = ReadStageFile(path_a);
  const StageFile b = ReadStageFile(path_b);
  if (a.layer != b.layer) {
    const auto name = [](uint32_t layer) { return layer == kWholeModel ? std::string("the whole model") : fmt::format("layer {}", layer); };
    throw Error(ErrorCode::kValidationFailed, fmt::format("stages of {} and of {} cannot be compared", name(a.layer), name(b.layer)), {.file = path_b});
  }
  if (a.values.size() != b.values.size()) {
    throw Error(ErrorCode::kValidationFailed, fmt::format("{} values against {}", a.values.size(), b.values.size()), {.file = path_b});
  }
  if (a.values.empty()) throw Error(ErrorCode::kValidationFailed, "holds no values: nothing was compared", {.file = path_a});
  StageFileDiff out{path_a, path_b, a.layer, {}, LargestDiffs(a.values, b.values, limit)};
  Accumulate(out.diff, a.values, b.values, 0);
  return out;
}

Json StageFileDiff::ToJson() const {
  Json top_list = Json::array();
  for (const TopDiff& t : top) {
    top_list.push_back({{"index", t.index}, {"a", JsonNumber(t.a)}, {"b", JsonNumber(t.b)}, {"abs_diff", JsonNumber(t.abs_diff)}});
  }
  return {{"schema", "apr-stage-diff-v1"},
          {"path_a", path_a},
          {"path_b", path_b},
          {"layer", layer == kWholeModel ? Json("whole-model") : Json(layer)},
          {"dim_product", diff.count},
          {"max_abs_diff", JsonNumber(diff.max_abs)},
          {"max_abs_diff_index", diff.max_index < 0 ? Json(nullptr) : Json(diff.max_index)},
          {"rms_diff", JsonNumber(diff.has_nonfinite_difference() ? diff.max_abs : diff.rmse())},
          {"cosine_sim", JsonNumber(diff.cosine())},
          {"identical", diff.is_identical()},
          {"nan_count_a", diff.nan_a},
          {"nan_count_b", diff.nan_b},
          {"top_diffs", top_list}};
}

StageDirectoryDiff DiffStageDirectories(const std::string& path_a, const std::string& path_b,
                                        std::optional<double> tolerance) {
  const StageDirectory a = StageDirectory::Open(path_a);
  const StageDirectory b = StageDirectory::Open(path_b);
  StageDirectoryDiff out;
  out.path_a = path_a;
  out.path_b = path_b;
  if (a.has_manifest() && b.has_manifest() && a.manifest().ids != b.manifest().ids) {
    out.ids_problem = "the two runs had other token ids";
  }
  const double allowed = tolerance ? *tolerance : std::max(FormatTolerance(a.manifest()), FormatTolerance(b.manifest()));
  const std::map<std::string, const StageEntry*> of_a = ByName(a);
  const std::map<std::string, const StageEntry*> of_b = ByName(b);
  for (const auto& [name, entry] : of_a) {
    const auto other = of_b.find(name);
    if (other == of_b.end()) {
      out.only_a.push_back(name);
      continue;
    }
    StageRow row;
    row.name = name;
    row.tolerance = allowed;
    CompareRow(row, a, *entry, b, *other->second);
    out.rows.push_back(std::move(row));
  }
  for (const auto& [name, entry] : of_b) {
    if (of_a.count(name) == 0) out.only_b.push_back(name);
  }
  std::sort(out.rows.begin(), out.rows.end(), [](const StageRow& x, const StageRow& y) {
    return CausallyBefore(*ParseStageName(x.name), *ParseStageName(y.name));
  });
  for (size_t i = 0; i < out.rows.size() && out.first < 0; ++i) {
    if (!out.rows[i].agrees) out.first = static_cast<int64_t>(i);
  }
  return out;
}

std::vector<int64_t> StageDirectoryDiff::Coordinate(const StageRow& row) const {
  if (row.diff.max_index < 0) return {};
  if (!row.shape) return {row.diff.max_index};
  std::vector<int64_t> out(static_cast<size_t>(row.shape->ndim()));
  int64_t rest = row.diff.max_index;
  for (int i = row.shape->ndim() - 1; i >= 0; --i) {
    out[static_cast<size_t>(i)] = rest % (*row.shape)[i];
    rest /= (*row.shape)[i];
  }
  return out;
}

Json StageDirectoryDiff::ToJson(int64_t limit) const {
  const auto row_json = [&](const StageRow& row) {
    Json out = {{"name", row.name}, {"agrees", row.agrees}, {"problem", row.problem.empty() ? Json(nullptr) : Json(row.problem)},
                {"coordinate", Coordinate(row)}, {"relative_error", JsonNumber(row.diff.relative_error())}, {"tolerance", row.tolerance}};
    out.update(row.diff.ToJson());
    return out;
  };
  Json list = Json::array();
  for (size_t i = 0; i < rows.size() && (limit <= 0 || static_cast<int64_t>(i) < limit); ++i) list.push_back(row_json(rows[i]));
  return {{"schema", "apr-stage-directory-diff-v1"},
          {"path_a", path_a},
          {"path_b", path_b},
          {"agree", agree()},
          {"compared", rows.size()},
          {"only_a", only_a},
          {"only_b", only_b},
          {"ids_problem", ids_problem.empty() ? Json(nullptr) : Json(ids_problem)},
          {"first", first < 0 ? Json(nullptr) : row_json(rows[static_cast<size_t>(first)])},
          {"stages", list}};
}

}  // namespace apr
