// See log_softmax.h.
#include "eval/log_softmax.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/bytes.h"
#include "base/error.h"

namespace apr {
namespace {

constexpr int kLanes = 8;

// exp for x in [-708, 0]: x = k ln 2 + r with |r| <= ln 2 / 2, Taylor's series of r to the 13th power (the
// next term is below 2^-57), times 2^k. No branch, so that compilers turn a loop over it into vectors.
double ExpNonPositive(double x) {
  constexpr double kShift = 0x1.8p52;  // adding it rounds to a whole number in the low bits
  constexpr double kLog2E = 0x1.71547652b82fep0;
  constexpr double kLn2High = 0x1.62e42feep-1;
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  x = x < -708.0 ? -708.0 : x;
  const double shifted = x * kLog2E + kShift;
  const double k = shifted - kShift;
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double p = 1.0 / 6227020800.0;
  for (const double c : {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0,
                         1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0}) {
    p = p * r + c;
  }
  const uint64_t scale = (std::bit_cast<uint64_t>(shifted) << 52) + std::bit_cast<uint64_t>(1.0);
  return p * std::bit_cast<double>(scale);
}

}  // namespace

double ExpAndSum(const double* x, int64_t count, double top, double* out) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      out[i + lane] = ExpNonPositive(x[i + lane] - top);
      lanes[lane] += out[i + lane];
    }
  }
  for (; i < count; ++i) {
    out[i] = ExpNonPositive(x[i] - top);
    lanes[i % kLanes] += out[i];
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

void LogSoftmax::Load(const TensorView& logits, int64_t row) {
  const TensorView view = logits.Rows(row, 1);
  const auto count = static_cast<size_t>(view.cols());
  logits_.resize(count);
  exps_.resize(count);
  bool finite_above = true;
  for (size_t i = 0; i < count; ++i) {
    logits_[i] = view.dtype == DType::kF64 ? LoadLe<double>(view.bytes.data() + 8 * i) : LoadLe<float>(view.bytes.data() + 4 * i);
    finite_above &= logits_[i] < std::numeric_limits<double>::infinity();
  }
  if (!finite_above || count == 0) throw Error(ErrorCode::kInference, "a logit is NaN or infinite");
  best_ = static_cast<int32_t>(std::ranges::max_element(logits_) - logits_.begin());
  const double top = logits_[static_cast<size_t>(best_)];
  if (std::isinf(top)) throw Error(ErrorCode::kInference, "every logit is -infinity");
  sum_ = ExpAndSum(logits_.data(), static_cast<int64_t>(count), top, exps_.data());
  log_sum_ = top + std::log(sum_);
}

double LogSoftmax::DivergenceTo(const LogSoftmax& other) const {
  double lanes[kLanes] = {};
  for (size_t i = 0; i < logits_.size(); ++i) {
    // Where p underflows both logits may be -infinity; it adds nothing.
    const double gap = logits_[i] - other.logits_[i];
    lanes[i % kLanes] += exps_[i] > 1e-300 ? exps_[i] * gap : 0.0;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return std::max(0.0, sum / sum_ - (log_sum_ - other.log_sum_));
}

}  // namespace apr
