// From a file's configuration to a ModelConfig.
#pragma once

#include "format/model_file.h"
#include "model/architecture.h"
#include "model/config.h"

namespace apr {

struct ResolvedConfig {
  ModelConfig config;
  const Architecture* architecture = nullptr;
};

// Throws kModelLoad: no configuration, an unknown architecture (by name), a missing or impossible
// parameter, a setting that would change the computation in a way that is not implemented.
ResolvedConfig ResolveConfig(const ModelFile& file);

}  // namespace apr
