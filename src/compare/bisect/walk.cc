// See walk.h.
#include "compare/bisect/walk.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace apr::bisect {
namespace {

constexpr int kUnexplainedTrials = 3;  // layers in which causes of the same unexplained stage are sought

// A tensor's name without the first number in it, which is its layer's.
std::string WithoutNumber(const std::string& name) {
  const size_t first = name.find_first_of("0123456789");
  if (first == std::string::npos) return name;
  const size_t end = name.find_first_not_of("0123456789", first);
  return name.substr(0, first) + (end == std::string::npos ? "" : name.substr(end));
}

}  // namespace

Walk::Walk(Bisection& b, Evaluator& evaluator, const SlotTable& slots, std::shared_ptr<const WalkModel> base, std::vector<Variation> also_right)
    : b_(b), evaluator_(evaluator), slots_(slots), variations_(std::move(also_right)) {
  if (variations_.empty()) variations_.push_back({.model = std::move(base)});
  right_ = variations_.size();
}

void Walk::Run() {
  const Graph& graph = variations_[0].model->bound.graph;
  int layer = 0;
  for (size_t i = 0; i < graph.stages.size(); ++i) {
    const Stage& stage = graph.stages[i];
    if (stage.layer > layer) {
      layer = stage.layer;
      evaluator_.run().Forget(layer - 1);
    }
    evaluator_.ForgetProducts();
    if (narrow_) narrow_->ForgetProducts();
    Visit(static_cast<int>(i));
  }
  std::set<std::string> known;
  for (const Stage& stage : graph.stages) known.insert(stage.Path());
  std::vector<std::string> foreign;
  for (const std::string& name : evaluator_.run().Names()) {
    if (!known.contains(name)) foreign.push_back(name);
  }
  if (!foreign.empty()) b_.Note(fmt::format("recorded stages that A's graph does not have: {}, the first {}", foreign.size(), foreign[0]));
  Finish();
}

void Walk::Group::ShownIn(const Stage& stage) {
  if (stage.layer >= 0 && (layers.empty() || layers.back() != stage.layer)) layers.push_back(stage.layer);
}

bool Walk::Explains(size_t variation, const Stage& stage) {
  const Variation& v = variations_[variation];
  const Stage* same = v.model->bound.graph.FindStage(stage.name, stage.layer);
  if (same == nullptr) return false;
  const Judged judged = Judge(evaluator(), v, static_cast<int>(same - v.model->bound.graph.stages.data()));
  return judged.compared && !judged.fails();
}

// A variation holds all that was found before it: the stage is of the first that explains it.
void Walk::ShownAgain(size_t variation, const Stage& stage) {
  size_t first = right_;
  while (first < variation && !Explains(first, stage)) ++first;
  const auto group = std::ranges::find_if(groups_, [&](const Group& g) { return std::ranges::count(g.added, first) > 0; });
  group->ShownIn(stage);
}

void Walk::Visit(int index) {
  const Stage& stage = variations_[0].model->bound.graph.stages[static_cast<size_t>(index)];
  Report& r = b_.report;
  if (!evaluator_.run().Has(stage.Path())) {
    r.coverage.stages_absent.push_back(stage.Path());
    return;
  }
  Judged judged;
  try {
    judged = Judge(evaluator_, variations_[0], index);
  } catch (const Error& e) {
    r.coverage.stages_absent.push_back(stage.Path());
    b_.Note(fmt::format("{}: {}", stage.Path(), e.what()));
    b_.inconclusive = fmt::format("a recorded stage cannot be read: {}", e.what());
    return;
  }
  if (!judged.compared) {
    const RecordedStage* recorded = evaluator_.run().Find(stage.Path());
    if (recorded != nullptr && judged.wrong_size && !ExplainedByKnown(stage)) Fail(index, judged);
    else if (!judged.wrong_size) b_.Note(fmt::format("{} could not be computed: {}", stage.Path(), judged.why));
    if (judged.no_numbers && b_.inconclusive.empty()) {
      b_.inconclusive = fmt::format("from {} on nothing is a number, in A's own computation as in what was recorded: does a weight of A overflow?", stage.Path());
    }
    return;
  }
  ++compared_;
  r.scores.push_back({stage.Path(), judged.error, NAN, judged.floor});
  if (judged.error > 0) b_.rounding = true;
  if (judged.fails() && !ExplainedByKnown(stage)) Fail(index, judged);
}

// A run that computed one stage in a narrower type than it declares: the others are judged as of that type.
void Walk::Narrow(const std::string& type, const std::string& group) {
  if (type.empty() || narrow_) return;
  RunFormats formats = evaluator_.formats();
  formats.activations = *FloatTypeFromName(type);
  narrow_.emplace(evaluator_.run(), evaluator_.ids(), formats, evaluator_.pool());
  narrow_group_ = group;
}

bool Walk::ExplainedByKnown(const Stage& stage) {
  if (narrow_) {
    const Judged judged = Judge(*narrow_, variations_[0], static_cast<int>(&stage - variations_[0].model->bound.graph.stages.data()));
    if (judged.compared && !judged.fails()) {
      std::ranges::find(groups_, narrow_group_, &Group::key)->ShownIn(stage);
      return true;
    }
  }
  for (size_t i = variations_.size(); i-- > 1;) {
    if (!Explains(i, stage)) continue;
    if (i >= right_) ShownAgain(i, stage);
    return true;
  }
  return false;
}

Finding Walk::Describe(const Stage& stage, const Judged& judged) const {
  Finding out;
  Place& p = out.first;
  p.phase = stage.name == "lm_head" && groups_.empty() && !b_.has_difference() ? Phase::kLogits : Phase::kOps;
  if (stage.layer >= 0) p.layer = stage.layer;
  p.stage = stage.name;
  if (judged.position >= 0) p.position = judged.position;
  p.coordinate = judged.coordinate;
  if (judged.compared) {
    p.a = judged.a;
    p.b = judged.b;
  }
  if (judged.wrong_size) {
    p.note = "B recorded " + judged.why;
    return out;
  }
  p.error = judged.error;
  p.floor = judged.floor;
  p.note = judged.nonfinite ? "B holds values that are no numbers where the computation gives some"
                            : fmt::format("{} of {} rows are farther from f64 on the same inputs than B's number formats explain", judged.bad_rows, judged.rows);
  return out;
}

void Walk::Fail(int index, const Judged& judged) {
  const Stage& stage = variations_[0].model->bound.graph.stages[static_cast<size_t>(index)];
  Group group{.finding = Describe(stage, judged), .key = "stage " + stage.name, .added = {}, .layers = {}};
  Variation found;
  const auto same = std::ranges::find(groups_, group.key, &Group::key);
  std::string narrow;
  const bool tired = same != groups_.end() && same->stages >= kUnexplainedTrials;
  if (b_.options.causes && !tired) {
    // First with what was found so far in force, then without it: a fault may sit in one layer only.
    for (size_t i = variations_.size(); i-- > 0;) {
      if (i != 0 && i + 1 != variations_.size() && i + 1 != right_) continue;
      const Stage* here = variations_[i].model->bound.graph.FindStage(stage.name, stage.layer);
      if (here == nullptr) continue;
      const int at = static_cast<int>(here - variations_[i].model->bound.graph.stages.data());
      Diagnosis diagnosis(evaluator(), slots_, variations_[i], at, Judge(evaluator(), variations_[i], at));
      if (!diagnosis.before().compared && !diagnosis.before().wrong_size) continue;
      Explain(diagnosis);
      group.finding.trials = diagnosis.Trials();
      const Diagnosis::Tried* best = diagnosis.Best();
      if (best == nullptr) continue;
      const Hypothesis& h = best->hypothesis;
      group.finding.cause = Cause{.name = h.name,
                                  .a = h.a,
                                  .b = h.b,
                                  .evidence = fmt::format("{}: the error falls from {:.3g} to {:.3g}, the floor is {:.3g}", h.detail, judged.wrong_size ? INFINITY : judged.error,
                                                          best->after.error, best->after.floor),
                                  .error_before = judged.wrong_size ? INFINITY : judged.error,
                                  .error_after = best->after.error,
                                  .fix = h.fix};
      group.finding.first.key = h.key;
      group.finding.first.tensor = h.tensor;
      found = h.variation;
      group.key = fmt::format("cause {} {} {}", h.name, DumpJson(h.b, -1), h.tensor);
      narrow = h.narrow;
      break;
    }
  }
  const std::string key = group.key;
  AddGroup(std::move(group), found, stage);
  Narrow(narrow, key);
}

void Walk::AddGroup(Group group, const Variation& found, const Stage& stage) {
  auto same = std::ranges::find(groups_, group.key, &Group::key);
  if (same == groups_.end()) {
    groups_.push_back(std::move(group));
    same = groups_.end() - 1;
  }
  if (found.model != nullptr) {
    same->added.push_back(variations_.size());
    variations_.push_back(found);
  }
  ++same->stages;
  same->ShownIn(stage);
}

// One cause that each layer shows on a tensor of its own (a bias that is never added) is one finding, if it is in every
// layer that has the stage.
void Walk::MergeLayers() {
  const auto alike = [](const Group& x, const Group& y) {
    return x.finding.cause && y.finding.cause && x.finding.cause->name == y.finding.cause->name && x.finding.cause->b == y.finding.cause->b &&
           x.finding.first.stage == y.finding.first.stage && x.finding.first.layer && WithoutNumber(x.finding.first.tensor) == WithoutNumber(y.finding.first.tensor);
  };
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i].finding.first.tensor.empty()) continue;
    std::set<int> layers;
    for (const Group& other : groups_) {
      if (alike(groups_[i], other)) layers.insert(*other.finding.first.layer);
    }
    const auto has = [&](const Stage& stage) { return stage.name == groups_[i].finding.first.stage && evaluator_.run().Has(stage.Path()); };
    const auto& stages = variations_[0].model->bound.graph.stages;
    if (layers.size() < 2 || static_cast<int64_t>(layers.size()) < std::ranges::count_if(stages, has)) continue;
    const Group first = groups_[i];
    for (size_t j = groups_.size(); j-- > i + 1;) {
      if (alike(first, groups_[j])) groups_.erase(groups_.begin() + static_cast<int64_t>(j));
    }
    groups_[i].layers.assign(layers.begin(), layers.end());
  }
}

void Walk::Finish() {
  MergeLayers();
  b_.report.coverage.stages_compared += compared_;
  b_.report.coverage.positions = std::max<int64_t>(b_.report.coverage.positions, evaluator_.tokens());
  if (compared_ > 0) b_.Covered(Phase::kOps);
  for (Group& group : groups_) {
    if (group.layers.size() > 1) group.finding.first.note += fmt::format("; in {} layers", group.layers.size());
    b_.Add(std::move(group.finding));
  }
}

}  // namespace apr::bisect
