// Whether two tensors are as close as the types they are stored in must make them: element by element for
// plain floats, block by block for quantised types, never by one mean alone.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "compare/element_diff.h"
#include "compare/storage_limits.h"
#include "compare/weight_values.h"

namespace apr {

// A run of 256 elements that the storage types do not explain.
struct BadChunk {
  int64_t index = 0;      // elements [256 * index, ...)
  double limit = 0;       // |a - b| above limit + kappa * |a| is damage; below it may be storage
};

struct StorageJudgement {
  ElementDiff diff;
  bool explained = false;      // no element and no block is farther than its types explain
  // Over a sample of runs, without the bad ones: measured error over the one that storing must cause.
  // 0 where nothing differs; infinite where nothing may differ and something does.
  double ratio = 0;
  double ratio_limit = 0;
  double slope = 1;            // of b over a, by least squares over the whole tensor
  bool slope_explained = true;  // no farther from 1 than storing in quantised types moves it
  bool mean_explained = false;  // ratio <= ratio_limit and the slope is: if not explained, single places are at fault
  double expected_rmse = 0;    // scaled from the sample to the whole
  double kappa = 0;            // of plain floats: relative error of an element
  int64_t chunks = 0;
  int64_t bad_count = 0;
  std::vector<BadChunk> bad;   // ascending; not all where they are more than 65,536

  double error() const { return diff.relative_error(); }  // root NMSE
  double floor() const;                                   // expected_rmse over the RMS of A
};

// Shapes must agree in rows * cols and cols. Both sides are read once.
StorageJudgement JudgeStorage(const WeightValues& a, const WeightValues& b, ThreadPool& pool);

}  // namespace apr
