// Comparing captured stages: two APRT files, or two stage directories in causal order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "compare/element_diff.h"
#include "format/stage_file.h"
#include "tensor/tensor.h"

namespace apr {

struct TopDiff {
  int64_t index = 0;
  double a = 0, b = 0, abs_diff = 0;
};

// Two stage files. Throws kValidationFailed when layer or count differ.
struct StageFileDiff {
  std::string path_a, path_b;
  uint32_t layer = kWholeModel;
  ElementDiff diff;
  std::vector<TopDiff> top;  // largest first

  Json ToJson() const;  // schema apr-stage-diff-v1
};
StageFileDiff DiffStageFiles(const std::string& path_a, const std::string& path_b, int64_t limit);

// Position of a stage in the data flow of a layer (reference: causal order); names that are not known
// come last.
int CausalRank(std::string_view stage);
// True if `a` is met before `b` by what flows through the model.
bool CausallyBefore(const StageName& a, const StageName& b);

struct StageRow {
  std::string name;                // "layer-3/q_post_rope"
  std::optional<Shape> shape;      // where a manifest gives it
  std::string problem;             // "shape [3, 4] against [3, 5]", "cannot be read: ..."; else empty
  ElementDiff diff;
  double tolerance = 0;            // on the relative error
  bool agrees = false;
};

struct StageDirectoryDiff {
  std::string path_a, path_b;
  std::vector<StageRow> rows;      // causal order
  std::vector<std::string> only_a, only_b;
  std::string ids_problem;         // the two runs had other token ids
  int64_t first = -1;              // row of the first difference

  bool agree() const { return first < 0 && !rows.empty() && ids_problem.empty(); }
  std::vector<int64_t> Coordinate(const StageRow& row) const;  // of the worst element, by its shape
  Json ToJson(int64_t limit) const;  // schema apr-stage-directory-diff-v1
};

// `tolerance` on sqrt(sum (a-b)^2 / sum a^2) per stage; nullopt: what the declared number formats of
// the two runs explain (docs/numerics.md). Throws kNotFound, kInvalidFormat.
StageDirectoryDiff DiffStageDirectories(const std::string& path_a, const std::string& path_b,
                                        std::optional<double> tolerance);

}  // namespace apr
