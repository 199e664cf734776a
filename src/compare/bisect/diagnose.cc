// See diagnose.h.
#include "compare/bisect/diagnose.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace apr::bisect {
namespace {

// How many digits a number takes that somebody wrote down; 0: it is none.
size_t Digits(const Json& value) {
  if (!value.is_number()) return 0;
  std::string text = Shortest(value.get<double>());
  text.erase(std::min(text.find('e'), text.size()));
  std::erase_if(text, [](char c) { return c < '0' || c > '9'; });
  text.erase(0, text.find_first_not_of('0'));
  text.erase(text.find_last_not_of('0') + 1);
  return text.size();
}

bool Better(const Diagnosis::Tried& x, const Diagnosis::Tried& y) {
  const bool fits_x = !x.after.fails(), fits_y = !y.after.fails();
  if (fits_x != fits_y) return fits_x;
  if (!fits_x) return x.after.error < y.after.error;
  // Both explain it: far better beats simpler, else the simpler one.
  if (x.after.ratio < 0.2 * y.after.ratio) return true;
  if (y.after.ratio < 0.2 * x.after.ratio) return false;
  if (x.hypothesis.rank != y.hypothesis.rank) return x.hypothesis.rank < y.hypothesis.rank;
  // Two constants that describe one function: the one that is a round number.
  const size_t digits_x = Digits(x.hypothesis.b), digits_y = Digits(y.hypothesis.b);
  // Else the one tried first.
  if (digits_x > 0 && digits_y > 0 && std::abs(x.after.ratio - y.after.ratio) < 0.05 * x.after.ratio) return digits_x < digits_y;
  return x.after.ratio < y.after.ratio;
}

}  // namespace

std::string Shortest(double value) { return value == std::floor(value) && std::abs(value) < 1e15 ? fmt::format("{:.0f}", value) : fmt::format("{:.6g}", value); }

bool Diagnosis::HasOp(const Op& op) const {
  return std::ranges::any_of(cone_, [&](int node) { return graph().nodes[static_cast<size_t>(node)].op == &op; });
}

bool Diagnosis::Try(Hypothesis hypothesis) {
  const Stage* stage = hypothesis.variation.model->bound.graph.FindStage(this->stage().name, this->stage().layer);
  if (stage == nullptr) return false;
  const int index = static_cast<int>(stage - hypothesis.variation.model->bound.graph.stages.data());
  Judged after;
  try {
    after = Judge(evaluator_, hypothesis.variation, index);
  } catch (const Error&) {
    return false;  // the changed op refuses these inputs
  }
  if (!after.compared) return false;
  if (after.fails()) RestrictToBadRows(hypothesis, after);
  tried_.push_back({std::move(hypothesis), after});
  return !tried_.back().after.fails();
}

// A fault that holds for some positions only: the hypothesis explains every row that was wrong, and the others need none.
void Diagnosis::RestrictToBadRows(Hypothesis& hypothesis, Judged& after) const {
  const size_t rows = before_.bad.size();
  if (rows < 4 || after.bad.size() != rows || before_.bad_rows * 10 > before_.rows * 9) return;
  const bool heads = stage().name == "attn_scores" || stage().name == "attn_softmax";
  const auto tokens = static_cast<size_t>(heads ? evaluator_.tokens() : static_cast<int64_t>(rows));
  size_t first = tokens, last = 0;
  for (size_t r = 0; r < rows; ++r) {
    if (!before_.bad[r]) continue;
    if (after.bad[r]) return;
    first = std::min(first, r % tokens);
    last = std::max(last, r % tokens);
  }
  if (first > last) return;
  hypothesis.detail += fmt::format(", at positions {} to {} only", first, last);
  hypothesis.rank += 3;
  after.ratio = std::min(before_.good_ratio, 1.0);
  after.error = before_.floor * after.ratio;
  after.floor = before_.floor;
  after.bad.assign(rows, false);
}

double Diagnosis::ErrorUnder(const Variation& variation) {
  const Stage* stage = variation.model->bound.graph.FindStage(this->stage().name, this->stage().layer);
  if (stage == nullptr) return INFINITY;
  const int index = static_cast<int>(stage - variation.model->bound.graph.stages.data());
  const RecordedStage* recorded = evaluator_.run().Find(stage->Path());
  std::optional<Evaluated> made;
  try {
    made = evaluator_.Evaluate(variation, index);
  } catch (const Error&) {
    return INFINITY;
  }
  if (!made || made->values.size() != recorded->values.size()) return INFINITY;
  const bool scores = stage->name == "attn_scores";
  const int64_t tokens = evaluator_.tokens();
  const auto width = static_cast<size_t>(made->width);
  if (!before_.bad.empty() && before_.bad.size() != made->values.size() / width) return INFINITY;
  double sum = 0, total = 0;
  for (size_t i = 0; i < made->values.size(); ++i) {
    if (scores && static_cast<int64_t>(i) % tokens > static_cast<int64_t>(i) / tokens % tokens) continue;
    const double difference = made->values[i] - recorded->values[i];
    if (!std::isfinite(difference) || (!before_.bad.empty() && !before_.bad[i / width])) continue;
    sum += difference * difference;
    total += made->values[i] * made->values[i];
  }
  return std::sqrt(sum / std::max(total, 1e-300));
}

void Diagnosis::TryConfig(Hypothesis hypothesis, const std::function<void(ModelConfig&)>& change) {
  const auto variation = WithConfig(change);
  if (!variation) return;
  hypothesis.variation = *variation;
  Try(std::move(hypothesis));
}

std::optional<Variation> Diagnosis::WithConfig(const std::function<void(ModelConfig&)>& change) const {
  ModelConfig config = model().config;
  change(config);
  SlotTable slots;
  for (const auto& [key, slot] : all_slots_->slots) slots.slots[key] = slot;
  for (size_t i = 0; i < model().slots.size(); ++i) {
    if (model().present[i]) slots.slots[model().slots[i]].weight = model().bound.weights[i];
  }
  Variation out = base_;
  try {
    out.model = BindWalkModel(config, *model().architecture, slots, model().bound.keep_alive);
  } catch (const Error&) {
    return std::nullopt;
  }
  return out;
}

bool Diagnosis::Solve(Hypothesis hypothesis, double low, double high, const std::function<void(ModelConfig&, double)>& change, double current) {
  const auto error = [&](double x) {
    const auto variation = WithConfig([&](ModelConfig& c) { change(c, x); });
    return variation ? ErrorUnder(*variation) : INFINITY;
  };
  const double x = Minimize(low, high, 49, error);
  if (!(error(x) < 0.7 * ErrorUnder(base_))) return false;
  const auto variation = WithConfig([&](ModelConfig& c) { change(c, x); });
  if (!variation) return false;
  hypothesis.variation = *variation;
  hypothesis.detail = fmt::format("{} {} -> {} (solved)", hypothesis.detail, Shortest(current), Shortest(x));
  hypothesis.a = JsonNumber(current);
  hypothesis.b = JsonNumber(std::stod(Shortest(x)));
  return Try(std::move(hypothesis));
}

const Diagnosis::Tried* Diagnosis::Best() const {
  const Tried* best = nullptr;
  for (const Tried& t : tried_) {
    if (!t.after.fails() && (best == nullptr || Better(t, *best))) best = &t;
  }
  return best;
}

std::vector<Trial> Diagnosis::Trials() const {
  std::vector<const Tried*> order;
  for (const Tried& t : tried_) order.push_back(&t);
  std::ranges::stable_sort(order, [](const Tried* x, const Tried* y) { return Better(*x, *y); });
  const Tried* best = Best();
  std::vector<Trial> out;
  constexpr size_t kListed = 12;
  for (const Tried* t : order) {
    if (out.size() == kListed) break;
    out.push_back({t->hypothesis.name, t->hypothesis.detail, t->after.error, t == best});
  }
  return out;
}

double Minimize(double low, double high, int points, const std::function<double(double)>& f) {
  const double step = std::log(high / low) / (points - 1);
  double best = low, smallest = INFINITY;
  for (int i = 0; i < points; ++i) {
    const double x = low * std::exp(step * i);
    const double y = f(x);
    if (y < smallest) {
      smallest = y;
      best = x;
    }
  }
  constexpr double kGolden = 0.6180339887498949;
  double left = std::log(best) - step, right = std::log(best) + step;
  double x1 = right - kGolden * (right - left), x2 = left + kGolden * (right - left);
  double y1 = f(std::exp(x1)), y2 = f(std::exp(x2));
  for (int i = 0; i < 44; ++i) {
    if (y1 < y2) {
      right = x2;
      x2 = x1;
      y2 = y1;
      x1 = right - kGolden * (right - left);
      y1 = f(std::exp(x1));
    } else {
      left = x1;
      x1 = x2;
      y1 = y2;
      x2 = left + kGolden * (right - left);
      y2 = f(std::exp(x2));
    }
  }
  const double x = std::exp((left + right) / 2);
  return f(x) <= smallest ? x : best;
}

void Explain(Diagnosis& d) {
  if (!d.before().compared) {
    TryShapeCauses(d);
    return;
  }
  const auto families = {TryNormCauses, TryRopeCauses, TryAttentionCauses, TryElementwiseCauses, TryMoeCauses, TryWeightCauses, TryPrecisionCauses};
  for (const auto& family : families) {
    if (d.explained()) return;
    family(d);
  }
}

}  // namespace apr::bisect
