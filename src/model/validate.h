// Whether a model file is whole and plausible: structure, checksums, agreement with its architecture,
// and the data quality rules (docs/validation.md). Reads every tensor once, at the speed of memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/thread_pool.h"
#include "format/model_file.h"

namespace apr {

enum class Severity { kInfo, kWarning, kError };
const char* SeverityName(Severity severity);  // "info", "warning", "error"

struct Finding {
  Severity level = Severity::kError;
  std::string message;             // one sentence
  std::string file;
  std::string tensor;              // tensor, or metadata or configuration key
  std::optional<uint64_t> offset;  // in `file`

  Json ToJson() const;
};

struct CheckResult {
  std::string id;                  // "checksum", "F-DATA-QUALITY-002"
  std::string what;                // what is checked
  std::string skipped;             // why it was not; else empty
  std::vector<Finding> findings;

  uint64_t Count(Severity level) const;
};

struct ValidateReport {
  std::string file, format, architecture;  // architecture empty: not checked as a model
  bool strict = false;
  uint64_t tensors = 0, elements = 0, bytes_read = 0;
  std::vector<CheckResult> checks;

  uint64_t Count(Severity level) const;
  const CheckResult* Check(std::string_view id) const;  // nullptr: not made
  // No errors; with `strict` no warnings either.
  bool passed() const { return Count(Severity::kError) == 0 && (!strict || Count(Severity::kWarning) == 0); }
  Json ToJson() const;
};

// `strict`: a warning fails, and so does a tensor of nothing but zeros, whatever it is for.
ValidateReport ValidateModel(const ModelFile& file, bool strict, ThreadPool& pool);

}  // namespace apr
