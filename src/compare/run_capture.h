// The values of a run kept in memory: logits and, if asked for, every stage, whatever the passes in which
// the tokens came.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "exec/executor.h"
#include "graph/graph.h"

namespace apr {

// Rows of the first sequence of each pass, appended pass after pass, as f64. Attention matrices
// ([heads, T, S]) do not line up between schedules and are left out unless `matrices`.
class StageCapture final : public TapSink {
 public:
  explicit StageCapture(bool matrices) : matrices_(matrices) {}
  // Tokens of the first sequence in the next pass; its rows are the first ones of every stage.
  void set_tokens(int64_t tokens) { tokens_ = tokens; }
  bool Wants(const Stage& stage) const override;
  void Take(const Stage& stage, const TensorView& data) override;

  struct Values {
    int64_t width = 0;  // elements of a row; of a matrix: all
    std::vector<double> data;
  };
  const Values* Find(const Stage& stage) const;

 private:
  bool matrices_;
  int64_t tokens_ = 0;
  std::map<std::pair<int, std::string>, Values> values_;
};

// Elements of an f32 or f64 tensor as f64.
std::vector<double> ToF64(const TensorView& data);

// "layer-3/q_post_rope", "lm_head".
std::string StageLabel(const Stage& stage);

}  // namespace apr
