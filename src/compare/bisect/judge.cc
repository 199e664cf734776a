// See judge.h.
#include "compare/bisect/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "compare/bisect/attention_pieces.h"
#include "op/attention/attention.h"
#include "op/moe/moe_route.h"

namespace apr::bisect {
namespace {

// How many standard deviations are still rounding: of one element, of a row's root mean square (of at
// least kWideRow elements), of the whole stage's. Measured: docs/numerics.md.
constexpr double kElement = 12;
constexpr double kRow = 5;
constexpr double kStage = 3;
constexpr int64_t kWideRow = 8;
constexpr double kRoundingSpread = 0.5;   // standard deviation of one rounding, in units
constexpr uint64_t kMoves = 4;             // evaluations with moved inputs
// Times the estimated floor: moving inputs explains no such error. The estimate does not know of int8.
constexpr double kHopeless = 1e6;
constexpr double kHopelessInt8 = 1e9;
constexpr double kRecorded = 0x1p-24;     // stage files hold f32

double RowRms(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::isfinite(x[i]) ? x[i] * x[i] : 0;
  return std::sqrt(sum / static_cast<double>(std::max<int64_t>(n, 1)));
}

// Standard deviation per element: roundings of the result, and what its inputs' errors make: of the row estimated, or
// measured on evaluations whose inputs were moved, and of the element where that is known (`spread`, else empty).
std::vector<double> Sigma(const Evaluated& e, const RunFormats& formats, std::span<const Evaluated> moved, const std::vector<double>& spread) {
  std::vector<double> out(e.values.size());
  const double own = kRoundingSpread * std::max({formats.activations.unit, e.unit, kRecorded}) * std::sqrt(static_cast<double>(e.roundings));
  std::vector<double> difference(static_cast<size_t>(e.width));
  for (int64_t r = 0; r < e.rows; ++r) {
    const double* x = e.values.data() + r * e.width;
    double row = RowRms(x, e.width) * e.input_error * 0.577;
    double squares = 0;
    for (const Evaluated& m : moved) {
      for (int64_t i = 0; i < e.width; ++i) difference[static_cast<size_t>(i)] = m.values[static_cast<size_t>(r * e.width + i)] - x[i];
      const double rms = RowRms(difference.data(), e.width);
      squares += rms * rms;
    }
    if (!moved.empty()) row = std::max(row, std::sqrt(squares / static_cast<double>(moved.size())));
    if (!spread.empty()) row = std::max(row, RowRms(spread.data() + r * e.width, e.width));
    for (int64_t i = 0; i < e.width; ++i) {
      const double relative = own * std::abs(x[i]);
      const double inputs = spread.empty() ? row : std::max(row, spread[static_cast<size_t>(r * e.width + i)]);
      out[static_cast<size_t>(r * e.width + i)] =
          std::sqrt(relative * relative + inputs * inputs) + e.slack + formats.activations.smallest + 1e-37;
    }
  }
  return out;
}

// Scores of keys that a query does not see are computed by some engines and left out by others.
std::vector<bool> Unread(const Variation& v, const Stage& stage, int64_t tokens, const RecordedStage& recorded) {
  if (stage.name != "attn_scores") return {};
  const Graph& graph = v.model->bound.graph;
  const Node& node = graph.nodes[static_cast<size_t>(graph.values[static_cast<size_t>(stage.parts[0])].producer)];
  const auto& a = node.As<AttentionAttributes>();
  std::vector<bool> skip(recorded.values.size(), false);
  for (int64_t item = 0; item < a.heads * tokens; ++item) {
    const KeyRange keys = VisibleKeys(a, {}, item % tokens, tokens);
    for (int64_t s = 0; s < tokens; ++s) {
      if (s < keys.first || s > keys.last) skip[static_cast<size_t>(item * tokens + s)] = true;
    }
  }
  return skip;
}

void Locate(const Stage& stage, int64_t tokens, const Evaluated& e, Judged& out) {
  const bool heads = stage.name == "attn_scores" || stage.name == "attn_softmax";
  if (out.worst >= 0) {
    const int64_t row = out.worst / e.width, column = out.worst % e.width;
    if (heads) out.coordinate = {row / tokens, row % tokens, column};
    else out.coordinate = {row, column};
  }
  if (out.row < 0) return;
  out.position = heads ? out.row % tokens : out.row + (tokens - e.rows);
}

std::vector<double> CorrectionOf(const Variation& v, const Node& node) {
  if (node.weights.empty() || !v.model->present[static_cast<size_t>(node.weights[0])]) return {};
  return ReadWeightF64(v.model->bound.weights[static_cast<size_t>(node.weights[0])]);
}

// Experts that a run chose need not be those of f64 where scores are close: the chosen ones must be as good as the
// best within the rounding of the logits.
Judged JudgeChoice(Evaluator& evaluator, const Variation& v, int index, const RecordedStage& recorded) {
  Judged out;
  const Graph& graph = v.model->bound.graph;
  const Stage& stage = graph.stages[static_cast<size_t>(index)];
  const Node& node = graph.nodes[static_cast<size_t>(graph.values[static_cast<size_t>(stage.parts[0])].producer)];
  const auto& a = node.As<MoeRouteAttributes>();
  const auto logits = evaluator.ValueBefore(v, node.inputs[0], index);
  const std::optional<Evaluated> best = evaluator.Evaluate(v, index);
  if (!logits || !best || best->values.size() != recorded.values.size()) {
    out.wrong_size = best && best->values.size() != recorded.values.size();
    out.why = out.wrong_size ? fmt::format("{} values where {} belong", recorded.values.size(), best->values.size()) : evaluator.missing();
    return out;
  }
  out.compared = true;
  out.rows = evaluator.tokens();
  const double unit = std::max(evaluator.formats().activations.unit, evaluator.formats().accumulate.unit);
  const auto score = [&, correction = CorrectionOf(v, node)](int64_t t, double expert) {
    const auto e = static_cast<size_t>(expert);
    const double x = (*logits)[static_cast<size_t>(t * a.experts) + e];
    const double s = a.scoring == "sigmoid" ? 1 / (1 + std::exp(-x)) : x;
    return s + (correction.empty() ? 0 : correction[e]);
  };
  double squares = 0, total = 0;
  for (int64_t t = 0; t < out.rows; ++t) {
    double scale = 0, worst_chosen = INFINITY, best_left = -INFINITY;
    const auto begin = static_cast<size_t>(t * a.top_k), end = begin + static_cast<size_t>(a.top_k);
    bool valid = true;
    for (size_t i = begin; i < end; ++i) {
      valid &= recorded.values[i] >= 0 && recorded.values[i] < static_cast<double>(a.experts) && recorded.values[i] == std::floor(recorded.values[i]);
      for (size_t j = begin; j < i; ++j) valid &= recorded.values[i] != recorded.values[j];
    }
    for (int64_t e = 0; e < a.experts; ++e) scale = std::max(scale, std::abs(score(t, static_cast<double>(e))));
    for (size_t i = begin; valid && i < end; ++i) worst_chosen = std::min(worst_chosen, score(t, recorded.values[i]));
    for (size_t i = begin; valid && i < end; ++i) {
      const auto chosen_end = recorded.values.begin() + static_cast<int64_t>(end);
      if (std::find(recorded.values.begin() + static_cast<int64_t>(begin), chosen_end, best->values[i]) == chosen_end) {
        best_left = std::max(best_left, score(t, best->values[i]));
      }
    }
    const double gap = valid ? std::max(0.0, best_left - worst_chosen) : INFINITY;
    squares += gap * gap;
    total += scale * scale;
    const double ratio = gap / (8 * unit * scale + 1e-300);
    if (ratio > 1) {
      ++out.bad_rows;
      if (out.row < 0) out.row = t;
    }
    if (ratio > out.ratio || out.worst < 0) {
      out.ratio = std::max(out.ratio, ratio);
      out.worst = static_cast<int64_t>(begin);
      out.a = best->values[begin];
      out.b = recorded.values[begin];
    }
  }
  out.error = std::sqrt(squares / std::max(total, 1e-300));
  out.floor = out.ratio > 0 ? out.error / out.ratio : unit;
  Locate(stage, evaluator.tokens(), *best, out);
  return out;
}

// How many standard deviations b is away from f. An infinity that both have is no difference.
double Deviations(double f, double b, double sigma) {
  if (f == b) return 0;
  return std::isfinite(b) && std::isfinite(f) ? std::abs(b - f) / sigma : INFINITY;
}

// A row whose inputs were no numbers: f64 makes none of them either. The difference is where they come from.
bool IsSpoilt(const ScoreInput& in, int64_t row) {
  bool expected = false, recorded = false;
  for (int64_t i = row * in.width; i < (row + 1) * in.width; ++i) {
    expected |= std::isnan(in.expected[static_cast<size_t>(i)]);
    recorded |= !std::isfinite(in.recorded[static_cast<size_t>(i)]);
  }
  return expected && recorded;
}

struct Sums {
  double squares = 0, total = 0, whitened = 0, sigma_squares = 0;
  double worst_z = -1;
  int64_t count = 0;
};

// Adds row `r` to the sums; how many times its allowance the row is off.
double RowRatio(const ScoreInput& in, int64_t r, Sums& sums, Judged& out) {
  double row_z = 0, row_max = 0;
  int64_t row_count = 0;
  for (int64_t i = r * in.width; i < (r + 1) * in.width; ++i) {
    const auto at = static_cast<size_t>(i);
    if (!in.skip.empty() && in.skip[at]) continue;
    const double f = in.expected[at], b = in.recorded[at];
    const double z = Deviations(f, b, in.sigma[at]);
    if (std::isfinite(f) && !std::isfinite(b)) out.nonfinite = true;
    if (std::isfinite(z)) {
      sums.squares += z > 0 ? (b - f) * (b - f) : 0;
      sums.total += std::isfinite(f) ? f * f : 0;
      sums.sigma_squares += in.sigma[at] * in.sigma[at];
    } else {
      sums.squares = INFINITY;
    }
    row_z += z * z;
    row_max = std::max(row_max, z);
    ++row_count;
    if (z > sums.worst_z) {
      sums.worst_z = z;
      out.worst = i;
      out.a = f;
      out.b = b;
    }
  }
  sums.whitened += row_z;
  sums.count += row_count;
  return std::max(row_max / kElement, row_count >= kWideRow ? std::sqrt(row_z / static_cast<double>(row_count)) / kRow : 0.0);
}

}  // namespace

void Score(const ScoreInput& in, Judged& out) {
  Sums sums;
  out.rows = static_cast<int64_t>(in.expected.size()) / std::max<int64_t>(in.width, 1);
  double ratio = 0;
  for (int64_t r = 0; r < out.rows; ++r) {
    const double row_ratio = IsSpoilt(in, r) ? 0 : RowRatio(in, r, sums, out);
    if (!(row_ratio <= ratio)) ratio = row_ratio;
    out.bad.push_back(!(row_ratio <= 1));
    if (!out.bad.back()) out.good_ratio = std::max(out.good_ratio, row_ratio);
    if (out.bad.back()) {
      out.mildest = out.bad_rows == 0 || row_ratio < out.mildest ? row_ratio : out.mildest;
      ++out.bad_rows;
      if (out.row < 0) out.row = r;
    }
  }
  if (sums.count == 0) {
    out.no_numbers = out.rows > 0 && in.skip.empty();
    out.why = out.no_numbers ? "nothing is a number, neither expected nor recorded" : "no element is read";
    return;
  }
  out.compared = true;
  if (sums.count >= kWideRow) ratio = std::max(ratio, std::sqrt(sums.whitened / static_cast<double>(sums.count)) / kStage);
  if (ratio > 1 && out.row < 0) {
    out.row = out.worst / in.width;
    out.mildest = ratio;
    out.bad_rows = out.rows;
    out.bad.assign(out.bad.size(), true);
  }
  out.ratio = ratio;
  out.error = sums.total > 0 ? std::sqrt(sums.squares / sums.total) : sums.squares > 0 ? INFINITY : 0;
  const double formats = sums.total > 0 ? kStage * std::sqrt(sums.sigma_squares / sums.total) : 0;
  out.floor = ratio > 0 && std::isfinite(ratio) && std::isfinite(out.error) && out.error > 0 ? out.error / ratio : formats;
}

Judged Judge(Evaluator& evaluator, const Variation& variation, int index) {
  Judged out;
  const Stage& stage = variation.model->bound.graph.stages[static_cast<size_t>(index)];
  const RecordedStage* recorded = evaluator.run().Find(stage.Path());
  if (recorded == nullptr) {
    out.why = "not recorded";
    return out;
  }
  if (stage.name == "moe_router_indices") return JudgeChoice(evaluator, variation, index, *recorded);
  const std::optional<Evaluated> plain = evaluator.Evaluate(variation, index);
  if (!plain) {
    out.why = evaluator.missing();
    return out;
  }
  if (plain->values.size() != recorded->values.size()) {
    out.wrong_size = true;
    out.why = fmt::format("{} values where {} belong", recorded->values.size(), plain->values.size());
    return out;
  }
  const std::vector<bool> skip = Unread(variation, stage, evaluator.tokens(), *recorded);
  const auto score = [&](std::span<const Evaluated> moved, const std::vector<double>& spread) {
    out = Judged();
    const std::vector<double> sigma = Sigma(*plain, evaluator.formats(), moved, spread);
    Score({plain->values, recorded->values, sigma, plain->width, skip}, out);
  };
  score({}, {});
  // What the formats really do to these inputs; also where only some rows are hopeless, for the others.
  if (out.fails() && out.mildest < (evaluator.formats().int8_activations ? kHopelessInt8 : kHopeless)) {
    if (const auto spread = evaluator.Spread(variation, index)) {
      score({}, *spread);
    } else {
      std::vector<Evaluated> moved;
      for (uint64_t seed = 1; seed <= kMoves; ++seed) moved.push_back(*evaluator.Evaluate(variation, index, seed));
      score(moved, {});
    }
  }
  Locate(stage, evaluator.tokens(), *plain, out);
  return out;
}

}  // namespace apr::bisect
