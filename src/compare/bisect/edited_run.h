// Of tests: a run with some of its stages changed after they were recorded.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "compare/bisect/recorded_run.h"

namespace apr::bisect {

class EditedRun : public RecordedRun {
 public:
  using Edit = std::function<void(const std::string& name, std::vector<double>& values)>;
  EditedRun(RecordedRun& run, Edit edit) : run_(run), edit_(std::move(edit)) {}
  const RecordedStage* Find(const std::string& name) override {
    const auto [it, added] = stages_.try_emplace(name, *run_.Find(name));
    if (added) edit_(name, it->second.values);
    return &it->second;
  }
  bool Has(const std::string& name) const override { return run_.Has(name); }
  std::vector<std::string> Names() const override { return run_.Names(); }
  void Forget(int) override {}

 private:
  RecordedRun& run_;
  Edit edit_;
  std::map<std::string, RecordedStage> stages_;
};

}  // namespace apr::bisect
