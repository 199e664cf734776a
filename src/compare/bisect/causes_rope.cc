// Causes in rotations: base, scaling, style, part, layers, positions. Frequencies are read off the recorded angles.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "compare/bisect/diagnose.h"
#include "op/rope/rope.h"

namespace apr::bisect {
namespace {

struct RopeNode {
  const Node* node = nullptr;
  const RopeAttributes* rope = nullptr;
  const RopeTableAttributes* table = nullptr;
  int spec = 0;  // of ModelConfig::ropes
};

std::optional<RopeNode> FindRope(const Diagnosis& d) {
  for (const int index : d.cone()) {
    const Node& node = d.graph().nodes[static_cast<size_t>(index)];
    if (node.op != &RopeOp()) continue;
    RopeNode out{.node = &node, .rope = &node.As<RopeAttributes>()};
    const int table = d.graph().values[static_cast<size_t>(node.inputs[1])].producer;
    out.table = &d.graph().nodes[static_cast<size_t>(table)].As<RopeTableAttributes>();
    out.spec = d.model().config.layers[static_cast<size_t>(node.layer)].rope;
    return out;
  }
  return std::nullopt;
}

struct Observed {
  std::vector<double> frequency;  // per pair
  double magnitude = 1;
  bool usable = false;
};

// Angle per pair and position from q before and after: arg(sum over heads of y conj(x)). The frequency starts as
// the angle between positions 0 and 1 and is refined by later positions as long as the winding number is certain.
Observed ReadFrequencies(Diagnosis& d, const RopeNode& r) {
  Observed out;
  const auto x = d.evaluator().ValueBefore(d.base(), r.node->inputs[0], d.index());
  const RecordedStage* y = d.evaluator().run().Find(d.stage().Path());
  const int64_t tokens = d.evaluator().tokens();
  if (!x || y == nullptr || y->values.size() != x->size() || tokens < 2 || d.stage().parts.size() != 1) return out;
  const RopeAttributes& a = *r.rope;
  const int64_t half = a.rotary_dim / 2, width = a.heads * a.head_dim;
  double scale = 0, count = 0;
  for (int64_t i = 0; i < half; ++i) {
    const int64_t first = a.first + (a.adjacent ? 2 * i : i), second = a.first + (a.adjacent ? 2 * i + 1 : i + half);
    const int64_t to_first = a.halves_out ? a.first + i : first, to_second = a.halves_out ? a.first + i + half : second;
    std::vector<double> angle(static_cast<size_t>(tokens));
    std::vector<double> weight(static_cast<size_t>(tokens));
    for (int64_t t = 0; t < tokens; ++t) {
      std::complex<double> sum = 0;
      double energy = 0;
      for (int64_t h = 0; h < a.heads; ++h) {
        const auto at = static_cast<size_t>(t * width + h * a.head_dim);
        const std::complex<double> in((*x)[at + static_cast<size_t>(first)], (*x)[at + static_cast<size_t>(second)]);
        const std::complex<double> made(y->values[at + static_cast<size_t>(to_first)], y->values[at + static_cast<size_t>(to_second)]);
        sum += made * std::conj(in);
        energy += std::norm(in);
      }
      angle[static_cast<size_t>(t)] = std::arg(sum);
      weight[static_cast<size_t>(t)] = energy;
      if (energy > 0) {
        scale += std::abs(sum) / energy;
        count += 1;
      }
    }
    double frequency = std::remainder(angle[1] - angle[0], 2 * std::numbers::pi);
    if (frequency < -1e-6) frequency += 2 * std::numbers::pi;
    for (int64_t t = 2; t < tokens; ++t) {
      const double predicted = angle[0] + frequency * static_cast<double>(t);
      const double off = std::remainder(angle[static_cast<size_t>(t)] - predicted, 2 * std::numbers::pi);
      if (std::abs(off) < 1) frequency += off / static_cast<double>(t);
    }
    out.frequency.push_back(std::max(frequency, 1e-12));
  }
  out.magnitude = count > 0 ? scale / count : 1;
  out.usable = true;
  return out;
}

// theta of f_i = theta^(-2 i / dim), from every pair but the first, weighted towards those that turned far.
double ThetaOf(const Observed& seen, int64_t dim) {
  double best = 0;
  for (size_t i = 1; i < seen.frequency.size(); ++i) {
    const double theta = std::pow(seen.frequency[i], -static_cast<double>(dim) / (2.0 * static_cast<double>(i)));
    if (i == 1 || seen.frequency[i] > 1e-5) best = theta;
  }
  return best;
}

class RopeCauses {
 public:
  RopeCauses(Diagnosis& d, const RopeNode& r) : d_(d), r_(r), config_(d.model().config) {}

  void Run() {
    Layers();
    Style();
    Theta();
    Scaling();
    Part();
    Positions();
    if (!d_.explained()) Frequencies();
  }

 private:
  RopeTableAttributes& Table(ModelConfig& c) const { return c.ropes[static_cast<size_t>(r_.spec)].table; }

  void Theta() {
    const double current = r_.table->theta;
    const Observed seen = ReadFrequencies(d_, r_);
    if (seen.usable && r_.table->scaling == "none") {
      const double theta = ThetaOf(seen, r_.rope->rotary_dim);
      if (theta > 1.001 && std::isfinite(theta) && theta < 1e12) Refine(theta, current);
    }
    if (!d_.explained()) {
      d_.Solve({.name = "rope_theta", .detail = "theta", .key = "rope_theta", .fix = "give B the base frequency of A", .rank = 1}, 10, 1e9,
               [this](ModelConfig& c, double x) { Table(c).theta = x; }, current);
    }
  }

  void Refine(double guess, double current) {
    // A round number that fits as well is what somebody wrote.
    for (const int digits : {1, 2, 3, 4, 6, 9}) {
      const double rounded = std::stod(fmt::format("{:.{}g}", guess, digits));
      if (std::abs(rounded / guess - 1) > 0.02) continue;
      d_.TryConfig({.name = "rope_theta", .detail = fmt::format("theta {} -> {} (from the recorded angles)", Shortest(current), Shortest(rounded)), .a = current,
                 .b = rounded, .key = "rope_theta", .fix = "give B the base frequency of A", .rank = digits > 4 ? 2 : 1},
                [&](ModelConfig& c) { Table(c).theta = rounded; });
      if (d_.explained()) return;
    }
  }

  void Scaling() {
    const Hypothesis base{.name = "rope_scaling", .key = "rope_scaling", .fix = "give B the rope scaling of A", .rank = 1};
    const RopeTableAttributes& t = *r_.table;
    if (t.scaling != "none") {
      Hypothesis none = base;
      none.detail = t.scaling + " -> none";
      none.a = t.scaling;
      none.b = "none";
      d_.TryConfig(none, [this](ModelConfig& c) {
        RopeTableAttributes plain;
        plain.rotary_dim = Table(c).rotary_dim;
        plain.theta = Table(c).theta;
        Table(c) = plain;
      });
      Hypothesis kept = none;
      kept.detail = t.scaling + " -> none, its magnitude factor kept";
      d_.TryConfig(kept, [this](ModelConfig& c) { Table(c).scaling = "none"; });
      Hypothesis linear = none;
      linear.detail = t.scaling + " -> linear";
      linear.b = "linear";
      d_.TryConfig(linear, [this](ModelConfig& c) { Table(c).scaling = "linear"; });
    }
    Hypothesis magnitude = base;
    magnitude.detail = "magnitude factor";
    d_.Solve(magnitude, 0.05, 20, [this](ModelConfig& c, double x) { Table(c).attention_factor = x; }, t.attention_factor);
    Hypothesis linear = base;
    linear.detail = t.scaling == "none" ? "linear factor" : t.scaling + " factor";
    const double current = t.scaling == "none" ? 1 : t.factor;
    d_.Solve(linear, 0.02, 100, [this](ModelConfig& c, double x) {
      if (Table(c).scaling == "none") Table(c).scaling = "linear";
      Table(c).factor = x;
    }, current);
    if (t.scaling == "longrope") {
      Hypothesis sets = base;
      sets.detail = "the other factor set";
      d_.TryConfig(sets, [this](ModelConfig& c) { std::swap(Table(c).factors, Table(c).long_factors); });
    }
    SolveField(base, "original_max_position_embeddings", 4, 1e7, &RopeTableAttributes::original_context);
    if (t.scaling == "llama3") {
      SolveField(base, "low_freq_factor", 0.05, 50, &RopeTableAttributes::low_freq_factor);
      SolveField(base, "high_freq_factor", 0.1, 200, &RopeTableAttributes::high_freq_factor);
    }
    if (t.scaling == "yarn") {
      SolveField(base, "beta_fast", 1, 512, &RopeTableAttributes::beta_fast);
      SolveField(base, "beta_slow", 0.01, 31, &RopeTableAttributes::beta_slow);
      Hypothesis truncate = base;
      truncate.detail = "truncate";
      d_.TryConfig(truncate, [this](ModelConfig& c) { Table(c).truncate = !Table(c).truncate; });
    }
  }

  void SolveField(Hypothesis h, const char* name, double low, double high, double RopeTableAttributes::* field) {
    if (d_.explained() || r_.table->scaling == "none" || r_.table->scaling == "linear" || r_.table->scaling == "factors") return;
    h.detail = name;
    d_.Solve(h, low, high, [this, field](ModelConfig& c, double x) { Table(c).*field = x; }, r_.table->*field);
  }

  void Style() {
    d_.TryConfig({.name = "rope_style", .detail = r_.rope->adjacent ? "adjacent pairs -> split halves" : "split halves -> adjacent pairs",
               .a = r_.rope->adjacent ? "adjacent" : "halves", .b = r_.rope->adjacent ? "halves" : "adjacent", .key = "rope_style",
               .fix = "rotate the pairs that A rotates", .rank = 1},
              [this](ModelConfig& c) {
                RopeSpec& spec = c.ropes[static_cast<size_t>(r_.spec)];
                spec.adjacent = !spec.adjacent;
                spec.halves_out = false;
              });
    if (r_.rope->adjacent) {
      d_.TryConfig({.name = "rope_style", .detail = "rotated elements written in the other order", .a = nullptr, .b = nullptr, .key = "rope_interleave",
                 .fix = "write rotated elements as A does", .rank = 2},
                [this](ModelConfig& c) { c.ropes[static_cast<size_t>(r_.spec)].halves_out = !c.ropes[static_cast<size_t>(r_.spec)].halves_out; });
    }
  }

  void Part() {
    for (int64_t dim = 2; dim <= r_.rope->head_dim; dim += 2) {
      if (dim == r_.rope->rotary_dim || (dim > 64 && dim % 8 != 0)) continue;
      d_.TryConfig({.name = "rope_dim", .detail = fmt::format("{} of {} elements rotate instead of {}", dim, r_.rope->head_dim, r_.rope->rotary_dim),
                 .a = r_.rope->rotary_dim, .b = dim, .key = "partial_rotary_factor", .fix = "rotate the part of a head that A rotates", .rank = 1},
                [&](ModelConfig& c) { Table(c).rotary_dim = dim; });
    }
  }

  void Layers() {
    const int layer = r_.node->layer;
    d_.TryConfig({.name = "rope_layers", .detail = fmt::format("layer {} does not rotate", layer), .a = true, .b = false, .key = "rope_layers",
               .fix = "rotate q and k in this layer", .rank = 0},
              [&](ModelConfig& c) { c.layers[static_cast<size_t>(layer)].rope = -1; });
    for (size_t other = 0; other < config_.ropes.size(); ++other) {
      if (static_cast<int>(other) == r_.spec) continue;
      d_.TryConfig({.name = "rope_theta", .detail = fmt::format("layer {} rotates with the other layers' base {}", layer, Shortest(config_.ropes[other].table.theta)),
                 .a = r_.table->theta, .b = config_.ropes[other].table.theta, .key = "rope_local_base_freq", .fix = "give each kind of layer its own base", .rank = 0},
                [&](ModelConfig& c) { c.layers[static_cast<size_t>(layer)].rope = static_cast<int>(other); });
    }
  }

  void Positions() {
    for (int shift = -16; shift <= 16; ++shift) {
      if (shift == 0) continue;
      Hypothesis h{.name = "position_offset", .detail = fmt::format("positions {:+}", shift), .a = 0, .b = shift, .fix = "count positions from 0",
                   .rank = 1 + std::abs(shift), .variation = d_.base()};
      h.variation.rope_shift = shift;
      d_.Try(std::move(h));
    }
    if (!d_.explained()) FarPositions();
  }

  // One shift for all positions turns pair i by shift * f_i: the shift whose angles fit those recorded best.
  void FarPositions() {
    const std::vector<std::complex<double>> turned = TurnedBy();
    if (turned.empty()) return;
    const std::vector<double> frequency = InverseFrequencies(*r_.table, d_.evaluator().tokens());
    constexpr int64_t kFarthest = 1 << 16;
    int64_t best = 0;
    double most = -INFINITY;
    for (int64_t shift = -kFarthest; shift <= kFarthest; ++shift) {
      double fit = 0;
      for (size_t i = 0; i < turned.size(); ++i) {
        const double angle = static_cast<double>(shift) * frequency[i];
        fit += turned[i].real() * std::cos(angle) + turned[i].imag() * std::sin(angle);
      }
      if (fit > most) {
        most = fit;
        best = shift;
      }
    }
    if (best == 0) return;
    Hypothesis h{.name = "position_offset", .detail = fmt::format("positions {:+} (from the recorded angles)", best), .a = 0, .b = best, .fix = "count positions from 0",
                 .rank = 3, .variation = d_.base()};
    h.variation.rope_shift = best;
    d_.Try(std::move(h));
  }

  // Per pair the sum over heads and positions of what was recorded times the conjugate of what should have been.
  std::vector<std::complex<double>> TurnedBy() {
    std::vector<std::complex<double>> out;
    const auto made = d_.evaluator().Evaluate(d_.base(), d_.index());
    const RecordedStage* y = d_.evaluator().run().Find(d_.stage().Path());
    if (!made || y == nullptr || y->values.size() != made->values.size() || d_.stage().parts.size() != 1) return out;
    const RopeAttributes& a = *r_.rope;
    const int64_t half = a.rotary_dim / 2, width = a.heads * a.head_dim;
    const bool adjacent = a.adjacent && !a.halves_out;
    for (int64_t i = 0; i < half; ++i) {
      std::complex<double> sum = 0;
      for (int64_t row = 0; row * a.head_dim < static_cast<int64_t>(y->values.size()) && width > 0; ++row) {
        const auto at = static_cast<size_t>(row * a.head_dim + a.first);
        const auto first = at + static_cast<size_t>(adjacent ? 2 * i : i), second = at + static_cast<size_t>(adjacent ? 2 * i + 1 : i + half);
        const std::complex<double> should(made->values[first], made->values[second]), is(y->values[first], y->values[second]);
        sum += is * std::conj(should);
      }
      out.push_back(sum);
    }
    return out;
  }

  // Any other set of frequencies that angles show.
  void Frequencies() {
    const Observed seen = ReadFrequencies(d_, r_);
    if (!seen.usable) return;
    std::vector<double> factors;
    for (size_t i = 0; i < seen.frequency.size(); ++i) {
      factors.push_back(std::pow(r_.table->theta, -2.0 * static_cast<double>(i) / static_cast<double>(r_.rope->rotary_dim)) / seen.frequency[i]);
    }
    d_.TryConfig({.name = "rope_scaling", .detail = "other frequencies (from the recorded angles)", .a = r_.table->scaling, .b = "factors", .key = "rope_scaling",
               .fix = "give B the rope scaling of A", .rank = 5},
              [&](ModelConfig& c) {
                Table(c).scaling = "factors";
                Table(c).factors = factors;
                Table(c).attention_factor = seen.magnitude;
              });
  }

  Diagnosis& d_;
  RopeNode r_;
  const ModelConfig& config_;
};

// A layer of A that does not rotate.
void TryRotating(Diagnosis& d) {
  const int layer = d.stage().layer;
  for (size_t spec = 0; spec < d.model().config.ropes.size(); ++spec) {
    const auto variation = d.WithConfig([&](ModelConfig& c) { c.layers[static_cast<size_t>(layer)].rope = static_cast<int>(spec); });
    if (!variation) continue;
    d.Try({.name = "rope_layers", .detail = fmt::format("layer {} rotates", layer), .a = false, .b = true, .key = "no_rope_layers",
           .fix = "do not rotate q and k in this layer", .rank = 1, .variation = *variation});
  }
}

}  // namespace

void TryRopeCauses(Diagnosis& d) {
  const bool rotated = d.stage().name == "q_post_rope" || d.stage().name == "k_post_rope";
  if (const auto rope = FindRope(d)) RopeCauses(d, *rope).Run();
  else if (rotated && d.stage().layer >= 0) TryRotating(d);
}

}  // namespace apr::bisect
