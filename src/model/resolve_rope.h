// Rotary embedding: from the many spellings in files to RopeTableAttributes.
#pragma once

#include "model/architecture.h"
#include "model/config.h"
#include "model/config_reader.h"

namespace apr {

// Fills config.ropes and each layer's index into it. config.head_dim, layers' windows and
// max_positions must be resolved.
// SmolLM3: `no_rope_layers` holds 1 for layers that rotate and 0 for those that do not. Sets the
// layers' rope; before ResolveRopes and before the windows, which depend on it.
void ResolveNoRopeLayers(ConfigReader& reader, ModelConfig& config);

void ResolveRopes(ConfigReader& reader, const Architecture& architecture, ModelConfig& config);

}  // namespace apr
