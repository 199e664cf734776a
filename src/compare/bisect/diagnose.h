// Causes by trial: a stage that its number formats do not explain is computed again under one small change at a time,
// until a change explains it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "compare/bisect/judge.h"
#include "compare/bisect/report.h"

namespace apr::bisect {

struct Hypothesis {
  std::string name;      // of a cause
  std::string detail;    // "theta 10000 -> 500000 (solved)"
  Json a, b;             // values of the constant on each side
  std::string key;       // Hugging Face config key
  std::string tensor;    // Hugging Face tensor name
  std::string fix;
  int rank = 0;          // simpler explanations first; of equals the better one
  std::string narrow;    // the type that everything was computed in, as far as this stage tells; empty: none
  Variation variation;
};

// One stage under trial.
class Diagnosis {
 public:
  // `slots`: every slot of A, also those that A's graph does not use.
  Diagnosis(Evaluator& evaluator, const SlotTable& slots, Variation base, int stage, Judged before)
      : evaluator_(evaluator), all_slots_(&slots), base_(std::move(base)), stage_(stage), before_(std::move(before)) {
    cone_ = evaluator_.Cone(base_, stage_);
  }

  Evaluator& evaluator() { return evaluator_; }
  const Variation& base() const { return base_; }
  const WalkModel& model() const { return *base_.model; }
  const Graph& graph() const { return base_.model->bound.graph; }
  const Stage& stage() const { return graph().stages[static_cast<size_t>(stage_)]; }
  int index() const { return stage_; }
  const Judged& before() const { return before_; }
  // Nodes that lie between what the run recorded and the stage.
  const std::vector<int>& cone() const { return cone_; }
  bool HasOp(const Op& op) const;

  // Judges the stage under the hypothesis and remembers it.
  bool Try(Hypothesis hypothesis);
  // Remembers a judgement made elsewhere.
  void Accept(Hypothesis hypothesis, const Judged& after) { tried_.push_back({std::move(hypothesis), after}); }
  // Relative error in the rows that are wrong, under `variation`, without remembering: for searches. Infinite where it
  // cannot be computed.
  double ErrorUnder(const Variation& variation);
  // base() with another configuration: the graph is built again, weights stay. nullopt: no graph can be built.
  std::optional<Variation> WithConfig(const std::function<void(ModelConfig&)>& change) const;
  // Try under WithConfig(change); nothing where no graph can be built.
  void TryConfig(Hypothesis hypothesis, const std::function<void(ModelConfig&)>& change);
  // Tries `change(config, x)` for the x in [low, high] that fits best, searched on a logarithmic grid and refined.
  bool Solve(Hypothesis hypothesis, double low, double high, const std::function<void(ModelConfig&, double)>& change, double current);

  struct Tried {
    Hypothesis hypothesis;
    Judged after;
  };
  // Those that explain the stage, best first; empty: none.
  const Tried* Best() const;
  bool explained() const { return Best() != nullptr; }
  std::vector<Trial> Trials() const;
  const SlotTable& slots() const { return *all_slots_; }

 private:
  void RestrictToBadRows(Hypothesis& hypothesis, Judged& after) const;

  Evaluator& evaluator_;
  const SlotTable* all_slots_;
  Variation base_;
  int stage_;
  Judged before_;
  std::vector<int> cone_;
  std::vector<Tried> tried_;
};

// Tries every family that can touch the stage; stops when one explains it.
void Explain(Diagnosis& d);

// The families.
void TryNormCauses(Diagnosis& d);
void TryRopeCauses(Diagnosis& d);
void TryAttentionCauses(Diagnosis& d);
void TryElementwiseCauses(Diagnosis& d);
void TryMoeCauses(Diagnosis& d);
void TryWeightCauses(Diagnosis& d);
void TryPrecisionCauses(Diagnosis& d);
void TryShapeCauses(Diagnosis& d);  // of a stage that has another number of values

// Rows of keys that attention receives; rows that it reads as keys or values.
void TryStaleKeys(Diagnosis& d);
void TryStaleCache(Diagnosis& d, const Node& attention);

// Smallest error of f over x in [low, high], log-spaced `points` first, then golden sections.
double Minimize(double low, double high, int points, const std::function<double(double)>& f);
std::string Shortest(double value);  // as JSON would print it

}  // namespace apr::bisect
