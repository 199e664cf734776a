// A bisection as one file that somebody else can replay: ids, configurations, tokenizers, the models if they
// fit, else the tensors and stage values around the first difference, versions and the report.
// Layout: docs/bisect-bundle.md.
#pragma once

#include <cstdint>
#include <string>

#include "base/output_file.h"
#include "compare/bisect/bisection.h"
#include "compare/bisect/report.h"

namespace apr::bisect {

struct BundleArgs {
  std::string path;
  Options options;          // of the bisection
  std::string version;      // of the program
  uint64_t max_model_bytes = 256'000'000;  // both sides; above it, parts only
  Overwrite overwrite = Overwrite::kRefuse;
};
// Throws kValidationFailed (exists), kIo, and what reading the sides throws.
void WriteBundle(const BundleArgs& args, const Report& report);

// True for a gzip file: nothing that bisect compares is one.
bool IsBundle(const std::string& path);

struct Replayed {
  Report report;
  std::string recorded_verdict, recorded_cause;  // of the bundle
  bool agrees = false;      // verdict and cause are the recorded ones
};
// Unpacks into a temporary folder that is removed again and runs the bisection on what is there. A bundle
// of parts replays the tokens phase and the comparison of the tensors; what it cannot run again is taken
// from the record, and a note says so. Throws kInvalidFormat for a damaged or hostile bundle.
Replayed ReplayBundle(const std::string& path);

}  // namespace apr::bisect
