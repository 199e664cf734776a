// Walking a recorded run in causal order: each stage against f64 on the run's own inputs. Where the number formats
// do not explain it, causes are tried; the accepted one is applied from there on, so that further faults show.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compare/bisect/bisection.h"
#include "compare/bisect/diagnose.h"

namespace apr::bisect {

class Walk {
 public:
  // `base`: what the run should have computed. Borrows all three.
  Walk(Bisection& b, Evaluator& evaluator, const SlotTable& slots, std::shared_ptr<const WalkModel> base,
       std::vector<Variation> also_right = {});

  // Adds findings, scores and coverage to the bisection.
  void Run();
  // The base and what was found to explain stages, in the order in which it was found. Given to another walk as
  // `also_right`, those count as right too.
  const std::vector<Variation>& variations() const { return variations_; }

 private:
  struct Group {
    Finding finding;
    std::string key;            // what makes two failures one finding
    std::vector<size_t> added;  // to variations_, by this finding
    std::vector<int> layers;
    int64_t stages = 0;

    void ShownIn(const Stage& stage);
  };

  void Visit(int index);
  bool ExplainedByKnown(const Stage& stage);
  void Narrow(const std::string& type, const std::string& group);
  Evaluator& evaluator() { return narrow_ ? *narrow_ : evaluator_; }
  void Fail(int index, const Judged& judged);
  Finding Describe(const Stage& stage, const Judged& judged) const;
  void AddGroup(Group group, const Variation& found, const Stage& stage);
  bool Explains(size_t variation, const Stage& stage);
  void ShownAgain(size_t variation, const Stage& stage);
  void MergeLayers();
  void Finish();

  Bisection& b_;
  Evaluator& evaluator_;
  std::optional<Evaluator> narrow_;    // with the type that the run was found to compute in
  std::string narrow_group_;           // key of the finding that says so
  const SlotTable& slots_;
  std::vector<Variation> variations_;  // [0]: the base; then with what was found; the last is tried first
  std::vector<Group> groups_;
  size_t right_ = 1;                   // of variations_, how many are what the run should have computed
  int64_t compared_ = 0;
};

}  // namespace apr::bisect
