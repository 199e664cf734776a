// Whether what a run recorded at a stage is explained by its number formats: error against floor. See
// docs/numerics.md, "The floor of a stage".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compare/bisect/evaluate.h"

namespace apr::bisect {

struct Judged {
  bool compared = false;           // false: could not be (why)
  std::string why;
  bool wrong_size = false;         // it has another number of values than it should
  double error = 0;                // root NMSE of the recorded values against f64 on the run's own inputs
  double ratio = 0;                // > 1: not explained by the number formats
  double floor = 0;                // error / ratio, or of the formats where there is no error
  int64_t worst = -1;              // index of the element farthest out
  int64_t row = -1;                // first row that is not explained; -1: none
  int64_t bad_rows = 0, rows = 0;
  double a = 0, b = 0;             // f64 and recorded values at `worst`
  bool no_numbers = false;         // not compared: nothing is a number, neither expected nor recorded
  bool nonfinite = false;          // recorded NaN or infinity where f64 has a number
  std::vector<int64_t> coordinate; // of `worst`
  int64_t position = -1;           // token of `row`
  double good_ratio = 0;           // largest ratio among the rows that are explained
  double mildest = 0;              // smallest ratio among those that are not; of the stage, where only the whole is not
  std::vector<bool> bad;           // which rows are not explained
  bool fails() const { return compared && !(ratio <= 1); }
};

// Judges stage `index` of variation's graph. Elements that nothing reads (scores of keys that are masked) are left out.
Judged Judge(Evaluator& evaluator, const Variation& variation, int index);

// The recorded values against `values` with standard deviation `sigma` of each: the part of Judge that needs no graph.
struct ScoreInput {
  const std::vector<double>& expected;
  const std::vector<double>& recorded;
  const std::vector<double>& sigma;
  int64_t width = 0;
  std::vector<bool> skip;          // empty: none
};
void Score(const ScoreInput& input, Judged& out);

}  // namespace apr::bisect
