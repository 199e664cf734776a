// Advice about a model file: what a careful publisher would do otherwise. Reads no tensor data.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "format/model_file.h"

namespace apr {

enum class LintLevel { kInfo, kWarn, kError };
const char* LintLevelName(LintLevel level);  // "INFO", "WARN", "ERROR"

struct LintIssue {
  LintLevel level = LintLevel::kInfo;
  std::string category;    // "Metadata", "Tensor Naming", "Efficiency", "Layout Contract", "Structure"
  std::string message;
  std::string suggestion;
};

struct LintReport {
  std::string model;
  std::vector<LintIssue> issues;

  int64_t Count(LintLevel level) const;
  bool passed() const { return Count(LintLevel::kError) == 0; }
  Json ToJson() const;
};

LintReport LintModel(std::shared_ptr<const ModelFile> file);

}  // namespace apr
