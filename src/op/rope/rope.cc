// See rope.h.
#include "op/rope/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "op/context.h"
#include "op/infer.h"

namespace apr {
namespace {

double BaseFrequency(const RopeTableAttributes& a, double theta, int64_t i) {
  return std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(a.rotary_dim));
}

// Dynamic NTK scaling: theta grows once the sequence exceeds the original context.
// Source: transformers src/transformers/modeling_rope_utils.py, _compute_dynamic_ntk_parameters.
double DynamicTheta(const RopeTableAttributes& a, int64_t total_length) {
  const double length = std::max(static_cast<double>(total_length), a.original_context);
  const double dim = static_cast<double>(a.rotary_dim);
  const double grown = a.factor * length / a.original_context - (a.factor - 1);
  return a.theta * std::pow(grown, dim / (dim - 2));
}

// Source: transformers modeling_rope_utils.py, _compute_llama3_parameters.
double Llama3Frequency(const RopeTableAttributes& a, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength > a.original_context / a.low_freq_factor) return frequency / a.factor;
  if (wavelength < a.original_context / a.high_freq_factor) return frequency;
  const double smooth =
      (a.original_context / wavelength - a.low_freq_factor) / (a.high_freq_factor - a.low_freq_factor);
  return (1 - smooth) * frequency / a.factor + smooth * frequency;
}

// Source: YaRN, arXiv 2309.00071, section 3.2; transformers modeling_rope_utils.py,
// _compute_yarn_parameters.
struct YarnRamp {
  double low;
  double high;
};
YarnRamp CorrectionRange(const RopeTableAttributes& a) {
  const double dim = static_cast<double>(a.rotary_dim);
  const auto pair_of_rotations = [&](double rotations) {
    return dim * std::log(a.original_context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(a.theta));
  };
  double low = pair_of_rotations(a.beta_fast);
  double high = pair_of_rotations(a.beta_slow);
  if (a.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  return {low, high};
}

double YarnFrequency(const RopeTableAttributes& a, const YarnRamp& ramp, double frequency, int64_t i) {
  const double slope = std::clamp((static_cast<double>(i) - ramp.low) / (ramp.high - ramp.low), 0.0, 1.0);
  const double keep = 1 - slope;
  return frequency / a.factor * (1 - keep) + frequency * keep;
}

const std::vector<double>& LongRopeFactors(const RopeTableAttributes& a, int64_t total_length) {
  return static_cast<double>(total_length) > a.original_context ? a.long_factors : a.factors;
}

template <typename Real>
void FillTable(const OpContext<Real>& context) {
  const auto& a = context.node.template As<RopeTableAttributes>();
  const auto half = static_cast<size_t>(a.rotary_dim / 2);
  for (const SequenceSpan& span : context.batch.sequences) {
    const std::vector<double> frequency = InverseFrequencies(a, span.total_length);
    for (int64_t t = 0; t < span.count; ++t) {
      const auto position = static_cast<double>(span.position + t);
      Real* row = context.outputs[0].data() + (span.first + t) * a.rotary_dim;
      for (size_t i = 0; i < half; ++i) {
        const double angle = position * frequency[i];
        row[i] = static_cast<Real>(std::cos(angle) * a.attention_factor);
        row[half + i] = static_cast<Real>(std::sin(angle) * a.attention_factor);
      }
    }
  }
}

class RopeTable final : public Op {
 public:
  const char* name() const override { return "rope_table"; }
  std::vector<Value> Infer(const Node& node, const Graph&) const override {
    const auto& a = node.As<RopeTableAttributes>();
    if (a.rotary_dim < 2 || a.rotary_dim % 2 != 0) ShapeError(node, "the rotated part of a head must be even");
    return {{.kind = ValueKind::kTokens, .width = a.rotary_dim}};
  }
  void Reference(const OpContext<double>& context) const override { FillTable(context); }
  void Cpu(const OpContext<float>& context) const override { FillTable(context); }
};

template <typename Real>
void RotateHead(const RopeAttributes& a, const Real* x, const Real* table, Real* y) {
  const int64_t half = a.rotary_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const int64_t first = a.first + (a.adjacent ? 2 * i : i);
    const int64_t second = a.first + (a.adjacent ? 2 * i + 1 : i + half);
    const Real cosine = table[i];
    const Real sine = table[half + i];
    const int64_t to_first = a.halves_out ? a.first + i : first;
    const int64_t to_second = a.halves_out ? a.first + i + half : second;
    y[to_first] = x[first] * cosine - x[second] * sine;
    y[to_second] = x[second] * cosine + x[first] * sine;
  }
}

template <typename Real>
void Rotate(const OpContext<Real>& context) {
  const auto& a = context.node.template As<RopeAttributes>();
  const int64_t width = a.heads * a.head_dim;
  context.pool.ParallelFor(context.batch.tokens(), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const Real* x = context.inputs[0].data() + t * width;
      Real* y = context.outputs[0].data() + t * width;
      if (a.rotary_dim < a.head_dim) std::copy_n(x, width, y);
      const Real* table = context.inputs[1].data() + t * a.rotary_dim;
      for (int64_t h = 0; h < a.heads; ++h) RotateHead(a, x + h * a.head_dim, table, y + h * a.head_dim);
    }
  });
}

class Rope final : public Op {
 public:
  const char* name() const override { return "rope"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const auto& a = node.As<RopeAttributes>();
    if (InputOf(node, graph, 0).width != a.heads * a.head_dim) ShapeError(node, "the width is not heads * head_dim");
    if (InputOf(node, graph, 1).width != a.rotary_dim) ShapeError(node, "the table has another rotary_dim");
    if (a.first < 0 || a.first + a.rotary_dim > a.head_dim) ShapeError(node, "rotates past the end of a head");
    return {{.kind = ValueKind::kTokens, .width = a.heads * a.head_dim}};
  }
  void Reference(const OpContext<double>& context) const override { Rotate(context); }
  void Cpu(const OpContext<float>& context) const override { Rotate(context); }
};

}  // namespace

std::vector<double> InverseFrequencies(const RopeTableAttributes& a, int64_t total_length) {
  const int64_t pairs = a.rotary_dim / 2;
  const double theta = a.scaling == "dynamic" ? DynamicTheta(a, total_length) : a.theta;
  std::vector<double> out(static_cast<size_t>(pairs));
  for (int64_t i = 0; i < pairs; ++i) out[static_cast<size_t>(i)] = BaseFrequency(a, theta, i);
  if (a.scaling == "none" || a.scaling == "dynamic") return out;
  if (a.scaling == "linear") {
    for (double& f : out) f /= a.factor;
  } else if (a.scaling == "llama3") {
    for (double& f : out) f = Llama3Frequency(a, f);
  } else if (a.scaling == "yarn") {
    const YarnRamp ramp = CorrectionRange(a);
    for (int64_t i = 0; i < pairs; ++i) out[static_cast<size_t>(i)] = YarnFrequency(a, ramp, out[static_cast<size_t>(i)], i);
  } else if (a.scaling == "factors" || a.scaling == "longrope") {
    const std::vector<double>& factors = a.scaling == "longrope" ? LongRopeFactors(a, total_length) : a.factors;
    if (factors.size() != out.size()) {
      throw Error(ErrorCode::kModelLoad, "rope scaling: one factor per pair is needed");
    }
    for (size_t i = 0; i < out.size(); ++i) out[i] /= factors[i];
  } else {
    throw Error(ErrorCode::kModelLoad, "unknown rope scaling '" + a.scaling + "'");
  }
  return out;
}

bool FrequenciesChange(const RopeTableAttributes& a, int64_t before, int64_t after) {
  if (a.scaling == "dynamic") return static_cast<double>(std::max(before, after)) > a.original_context && before != after;
  if (a.scaling == "longrope") return &LongRopeFactors(a, before) != &LongRopeFactors(a, after);
  return false;
}

const Op& RopeTableOp() {
  static const RopeTable kOp;
  return kOp;
}
const Op& RopeOp() {
  static const Rope kOp;
  return kOp;
}

}  // namespace apr
