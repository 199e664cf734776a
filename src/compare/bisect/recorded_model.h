// Of tests: a small model of testdata/, its run in f64, and runs of which some of the stages were recorded.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "compare/bisect/bisection.h"
#include "compare/bisect/evaluate.h"

namespace apr::bisect {

// Names of the models in testdata/model.
inline std::vector<std::string> SmallModels() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(APR_SOURCE_DIR "/testdata/model")) {
    if (entry.is_directory() && OpenSide(entry.path().string()).architecture != nullptr) out.push_back(entry.path().filename().string());
  }
  std::ranges::sort(out);
  return out;
}

// Stages in memory, free to be changed.
class HeldRun : public RecordedRun {
 public:
  HeldRun() = default;
  explicit HeldRun(RecordedRun& run, const std::function<bool(const std::string&)>& keep = [](const std::string&) { return true; }) {
    for (const std::string& name : run.Names()) {
      if (keep(name)) stages[name] = *run.Find(name);
    }
  }
  const RecordedStage* Find(const std::string& name) override {
    const auto it = stages.find(name);
    return it == stages.end() ? nullptr : &it->second;
  }
  bool Has(const std::string& name) const override { return stages.contains(name); }
  std::vector<std::string> Names() const override {
    std::vector<std::string> out;
    for (const auto& [name, stage] : stages) out.push_back(name);
    return out;
  }
  void Forget(int) override {}
  std::vector<double>& Values(const std::string& name) { return stages.at(name).values; }

  std::map<std::string, RecordedStage> stages;
};

struct RecordedModel {
  explicit RecordedModel(const std::string& name, int64_t tokens = 20) : side(OpenSide(APR_SOURCE_DIR "/testdata/model/" + name)) {
    model = BindWalkModel(side.config, *side.architecture, side.slots, side.file);
    for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>((i * 37 + 11) % side.config.vocab_size));
    run = HeldRun(*RunOf(*model));
  }

  std::unique_ptr<RecordedRun> RunOf(const WalkModel& of) const {
    return RecordRun(ExecutorKind::kReference, std::make_shared<BoundGraph>(of.bound), ids, {.threads = 1});
  }
  const Graph& graph() const { return model->bound.graph; }
  int Index(const std::string& stage, int layer = 0) const {
    const Stage* at = graph().FindStage(stage, layer);
    return at == nullptr ? -1 : static_cast<int>(at - graph().stages.data());
  }
  const Node& NodeOf(const Op& op, int layer = 0) const {
    return *std::ranges::find_if(graph().nodes, [&](const Node& n) { return n.op == &op && n.layer == layer; });
  }
  Variation plain() const { return {.model = model}; }
  Evaluator Over(RecordedRun& of, RunFormats formats) { return {of, ids, std::move(formats), pool}; }
  Evaluator Over(RecordedRun& of) { return Over(of, FormatsOf({})); }

  Side side;
  std::shared_ptr<const WalkModel> model;
  std::vector<int32_t> ids;
  HeldRun run;
  ThreadPool pool{1};
};

// Formats of which nothing but the units matters.
inline RunFormats Units(double activations, double accumulate) {
  const auto type = [](double unit) { return FloatType{.name = "test", .unit = unit, .largest = 1e300, .smallest = 0, .bits = 53}; };
  RunFormats out;
  out.activations = type(activations);
  out.accumulate = type(accumulate);
  return out;
}

inline double Rms(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum / static_cast<double>(std::max<size_t>(x.size(), 1)));
}

// The largest difference over the root mean square of b; infinite where the sizes differ.
inline double Apart(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst / (Rms(b) + 1e-300);
}

}  // namespace apr::bisect
