// The one comparer: two streams of elements, compared one by one, with the worst coordinate named.
// A NaN on either side is a difference; zero elements compared is no agreement.
#pragma once

#include <cstdint>
#include <span>

#include "base/json_fwd.h"
#include "compare/chunk_kernels.h"

namespace apr {

struct ElementDiff {
  int64_t count = 0;            // elements compared
  int64_t identical = 0;        // equal values (0 and -0 are; NaN never is)
  int64_t small = 0;            // 0 < |a - b| < 0.001
  int64_t medium = 0;           // 0.001 <= |a - b| < 0.01
  int64_t large = 0;            // the rest, non-finite ones too
  int64_t nan_a = 0, nan_b = 0, inf_a = 0, inf_b = 0;
  int64_t first_nonfinite = -1; // index of the first NaN or infinity that only one side has
  double max_abs = 0;           // largest |a - b|; infinite where one side is not finite
  int64_t max_index = -1;       // where; -1: nothing differs
  double a_at_max = 0, b_at_max = 0;
  // Sums over the elements that are finite on both sides, in f64.
  int64_t finite = 0;
  double sum_abs = 0, sum_sq = 0, sum_aa = 0, sum_bb = 0, sum_ab = 0;

  bool is_identical() const { return count > 0 && identical == count; }
  bool has_nonfinite_difference() const { return first_nonfinite >= 0; }
  double mean_abs() const;
  double rmse() const;
  double rms_a() const;
  double nmse() const;    // sum (a - b)^2 / sum a^2; 0 if both are 0; infinite for non-finite differences
  double cosine() const;  // 0 when a norm is 0 and the other is not; 1 when both are
  double relative_error() const;  // sqrt(nmse)

  Json ToJson() const;
};

// Compares a[i] with b[i]; `first` is the index of element 0 in the whole. May be called in pieces;
// pieces that are merged must come in index order for equal results.
void Accumulate(ElementDiff& diff, std::span<const float> a, std::span<const float> b, int64_t first);
void Accumulate(ElementDiff& diff, std::span<const double> a, std::span<const double> b, int64_t first);
// Of each run of 256 elements, counted from the first: what tells whether the storage types explain it.
struct ChunkStatistics {
  float sq = 0;      // sum of (a - b)^2
  float max_d = 0;   // largest |a - b|
  float max_a = 0;   // largest |a|
  float excess = 0;  // largest |a - b| - kappa * |a|; all four infinite where a value is not finite
};
// Accumulate, which also fills `statistics` (nullable; one per run) .
void AccumulateChunks(ElementDiff& diff, std::span<const float> a, std::span<const float> b, int64_t first, float kappa,
                      ChunkStatistics* statistics);
// Those of up to kQuickRuns runs, kappa 0: `excess` is max_d.
struct QuickStatistics {
  float sq[kQuickRuns], max_d[kQuickRuns], max_a[kQuickRuns];
  ChunkStatistics Of(int run) const { return {sq[run], max_d[run], max_a[run], max_d[run]}; }
};
// AccumulateChunks with kappa 0, several runs at a time, for elements of which a side is quantised and comes decoded: maxima,
// places and counts are the same, sums but for the order of their terms.
class QuickComparison {
 public:
  // How the elements of either side lie; one of them at least as f32. `located`: the largest difference whose place is
  // known, of all parts of a tensor that are compared with it; places of smaller ones are not looked for.
  QuickComparison(ElementDiff& diff, RunType a, RunType b, float& located);
  // Runs one behind the other, in index order: at most kQuickRuns, of 256 elements each but for the last of a tensor,
  // `count` in all.
  void Add(const void* const* a, const void* const* b, int64_t count, int64_t first, QuickStatistics& out);

 private:
  void AddExact(const void* a, const void* b, int64_t count, int64_t first, int run, QuickStatistics& out);
  void AddTile(const void* const* a, const void* const* b, const QuickTile& tile, int runs, int64_t first);

  ElementDiff& diff_;
  float& located_;
  RunType type_a_, type_b_;
  ChunkKernel exact_;
  QuickKernel quick_;
};
void MergeDiff(ElementDiff& into, const ElementDiff& next);

}  // namespace apr
