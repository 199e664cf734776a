// Where two configurations of one model first compute something else, found by running it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compare/bisect/bisection.h"
#include "compare/bisect/walk_model.h"

namespace apr::bisect {

struct Effect {
  bool runs = false;               // both could be computed
  bool differs = false;
  std::optional<int64_t> layer;
  std::string stage;
  std::string tensor;              // that does not fit, where one side cannot run
  int64_t position = -1;
  std::vector<int64_t> coordinate;
  double a = 0, b = 0, error = 0;
  std::string note;
};

// Runs `b` up to the layer in which the graphs part, then computes each stage from its values under both, in f64:
// errors do not propagate. `slots`: weights for both.
Effect FindEffect(const Bisection& bisection, const ModelConfig& a, const ModelConfig& b, const Architecture& architecture, const SlotTable& slots,
                  std::shared_ptr<const void> keep_alive);

// The first stage that needs weight `slot`.
std::optional<std::pair<std::optional<int64_t>, std::string>> StageReading(const WalkModel& model, const SlotKey& slot);

}  // namespace apr::bisect
