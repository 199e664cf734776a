// The model that a captured run shows: sizes from the shapes of its stages, biases and norm weights from its values. Matrices
// stay absent.
#pragma once

#include <memory>
#include <optional>

#include "compare/bisect/recorded_run.h"
#include "compare/bisect/walk_model.h"

namespace apr::bisect {

struct ShownModel {
  ModelConfig config;
  const Architecture* architecture = nullptr;
  SlotTable slots;
};

// nullopt: shapes are not known, or no decoder has such stages. `architecture`: of the manifest, may be empty.
std::optional<ShownModel> ReadShownModel(RecordedRun& run, const std::string& architecture);

}  // namespace apr::bisect
