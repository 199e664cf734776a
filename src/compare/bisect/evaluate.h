// Teacher-forced evaluation in f64: a stage computed from the nearest earlier values that a recorded run
// holds, so that an error shows where it starts and nowhere else.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "compare/bisect/number_format.h"
#include "compare/bisect/recorded_run.h"
#include "compare/bisect/walk_model.h"

namespace apr::bisect {

struct Evaluated {
  std::vector<double> values;      // as the stage is recorded: parts side by side
  int64_t rows = 0, width = 0;     // [rows, width]; matrices of heads: [heads * T, S]
  int roundings = 1;               // to the activation type, of the result itself
  double input_error = 0;          // relative error of inputs that the arithmetic inside an op amounts to: the largest of the ops computed
  double slack = 0;                // absolute error of each element besides (f64)
  double unit = 0;                 // of the type that the result is exact to
};

class Evaluator {
 public:
  Evaluator(RecordedRun& run, std::vector<int32_t> ids, RunFormats formats, ThreadPool& pool);

  int64_t tokens() const { return static_cast<int64_t>(ids_.size()); }
  const RunFormats& formats() const { return formats_; }
  RecordedRun& run() { return run_; }
  ThreadPool& pool() { return pool_; }
  const std::vector<int32_t>& ids() const { return ids_; }

  // The stage `index` of variation.model's graph. `seed` > 0: every input of every op is moved at random by as much
  // as the run's number formats may move it. nullopt: something that it needs is absent (weights, stages of
  // another shape); missing() says what.
  std::optional<Evaluated> Evaluate(const Variation& variation, int index, uint64_t seed = 0);
  // Of a stage that holds products of recorded values: the standard deviation of each element that errors of their
  // inputs and their arithmetic explain. nullopt: another stage.
  std::optional<std::vector<double>> Spread(const Variation& variation, int index);
  // One value of the graph as the run has it before stage `limit`, or computed from what it has.
  std::optional<std::vector<double>> ValueBefore(const Variation& variation, ValueId value, int limit);
  // Nodes that have to be computed for the stage because the run did not record what they make, in order.
  std::vector<int> Cone(const Variation& variation, int index);
  // Products that were computed are kept until the next stage: trials that change something else reuse them.
  void ForgetProducts() { products_.clear(); }
  const std::string& missing() const { return missing_; }

 private:
  friend class Evaluation;
  RecordedRun& run_;
  std::vector<int32_t> ids_;
  RunFormats formats_;
  ThreadPool& pool_;
  std::string missing_;
  std::map<std::string, std::vector<double>> products_;
};

}  // namespace apr::bisect
