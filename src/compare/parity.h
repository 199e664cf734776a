// Parity: one prompt through two ways of computing one model, position by position. Verdicts and bounds:
// docs/parity.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "generate/session.h"
#include "model/model.h"

namespace apr {

// "reference", "cpu", "cpu:exact", "cpu:fast", "cpu:exact:avx2", "reference:scalar".
struct ParityEngine {
  ExecutorKind executor = ExecutorKind::kCpu;
  Precision precision = Precision::kFast;
  std::string isa;   // empty: the one in force
  std::string name;  // as given
};
// Throws kNotBuilt for cuda, kUsage for an unknown part.
ParityEngine ParseParityEngine(std::string_view text);

enum class ParityVerdict { kPass, kNearTie, kWarnArgmax, kWarnOutOfSpec, kFailFormats, kFailDivergent, kFailCatastrophic, kFailNan };
const char* ParityVerdictName(ParityVerdict verdict);  // "Pass", "NearTie", "WarnArgmax", ...
bool IsFailure(ParityVerdict verdict);

struct ParityMetric {
  int64_t position = 0;
  int32_t token = 0;
  int64_t argmax_a = 0, argmax_b = 0;
  double max_abs = 0, mean_abs = 0, cosine = 0, relative_error = 0;
  double kl = 0;       // of softmax(A) from softmax(B), nats
  double sigma = 0;    // spec limit over the standard deviation of the differences
  double cpk = 0;      // distance of their mean from the nearer limit over three of those
  ParityVerdict verdict = ParityVerdict::kPass;
};

struct ParityStage {
  std::string name;
  double relative_error = 0, allowed = 0;
  std::vector<int64_t> coordinate;
  double a = 0, b = 0;
};

struct ParityReport {
  std::string model, a, b;
  std::vector<int32_t> ids;
  std::vector<ParityMetric> metrics;
  double allowed = 0;                 // relative error that the two number formats explain
  std::optional<ParityStage> first;   // per-op: the first stage beyond it
  int64_t stages = 0;                 // compared per op

  int64_t failed() const;
  int64_t warned() const;
  bool parity() const { return failed() == 0 && !metrics.empty(); }
  std::string Diagnosis() const;      // one sentence where something failed
  Json ToJson() const;
};

struct ParityRequest {
  std::shared_ptr<const Model> model;
  ParityEngine a, b;
  std::vector<int32_t> ids;
  bool per_op = false;
  int threads = 0;
  std::shared_ptr<const BoundGraph> graph_b;  // instead of the model's own, for B; null: the model's
  RunHooks hooks;
};
// Leaves the instruction set in force as it was.
ParityReport RunParity(const ParityRequest& request);

// The measures of one position.
ParityMetric MeasureParity(std::span<const double> a, std::span<const double> b, double allowed);

}  // namespace apr
