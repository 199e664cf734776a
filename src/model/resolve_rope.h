// Rotary embedding: from the many spellings in files to RopeTableAttributes.
#pragma once

#include "model/architecture.h"
#include "model/config.h"
#include "model/config_reader.h"

namespace apr {

// Fills config.ropes and each layer's index into it. config.head_dim, layers' windows and
// max_positions must be resolved.
void ResolveRopes(ConfigReader& reader, const Architecture& architecture, ModelConfig& config);

}  // namespace apr
