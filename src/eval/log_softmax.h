// Softmax of a row of logits in f64, whatever they were computed in. The order of the sums is fixed, so the
// same logits give the same bits on every machine.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace apr {

class LogSoftmax {
 public:
  // Row `row` of `logits` [n, V], f32 or f64. Throws kInference if one is NaN or +infinity, or all are
  // -infinity.
  void Load(const TensorView& logits, int64_t row);

  int64_t size() const { return static_cast<int64_t>(logits_.size()); }
  int32_t best() const { return best_; }  // the lowest id among equals
  double LogProbability(int32_t id) const { return logits_[static_cast<size_t>(id)] - log_sum_; }

  // Kullback-Leibler divergence of `other` from this: sum p (log p - log q), in nats, at least 0.
  double DivergenceTo(const LogSoftmax& other) const;

 private:
  std::vector<double> logits_;
  std::vector<double> exps_;  // exp(logit - largest)
  double sum_ = 0;            // of exps_
  double log_sum_ = 0;        // log sum exp(logits)
  int32_t best_ = 0;
};

// out[i] = exp(x[i] - top) for x[i] <= top, relative error below 2^-51; returns their sum. Arguments below -708
// give what -708 gives. Exported for its test.
double ExpAndSum(const double* x, int64_t count, double top, double* out);

}  // namespace apr
