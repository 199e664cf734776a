// Why two tensors differ: small changes of A's tensor (and of its neighbours) are tried one by one, and one
// is named only if it brings B down to the error that the storage types explain. Cheap signatures come
// first (a few rows, sketches of rows, solved scales), so that a model takes seconds.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/thread_pool.h"
#include "compare/storage_floor.h"
#include "compare/weight_diff.h"

namespace apr {

struct WeightTrial {
  std::string cause;        // "transposed"
  std::string detail;       // "rows turned by 3"
  double error_after = 0;   // root NMSE that is left
  bool accepted = false;
};

struct WeightExplanation {
  std::string cause;        // empty: nothing explains it
  std::string detail;
  // Tensors whose group is the same show one fault: "rope_permutation", "scaled_tensor q 0.5".
  std::string group;
  std::string evidence, fix;
  Json a, b;                // what differs, on each side; null where there is no such thing
  double error_before = 0, error_after = 0, floor = 0;  // root NMSE
  int64_t index = -1;       // a damaged element, row-major; -1: the worst of the comparison
  std::string source;       // whose content this is, where another tensor's (canonical name)
  std::optional<size_t> source_pair;
  std::vector<WeightTrial> trials;  // best first, the accepted one at the top
};

class WeightSearch {
 public:
  // Borrows both.
  WeightSearch(const WeightPairs& pairs, ThreadPool& pool);
  ~WeightSearch();
  WeightSearch(const WeightSearch&) = delete;
  WeightSearch& operator=(const WeightSearch&) = delete;

  // pairs.pairs[pair] disagree. `judged`: their comparison, where the shapes agree.
  WeightExplanation Explain(size_t pair, const StorageJudgement* judged);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apr
