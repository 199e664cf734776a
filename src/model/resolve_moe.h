// Mixtures of experts and latent attention: their part of the configuration.
#pragma once

#include "model/architecture.h"
#include "model/config.h"
#include "model/config_reader.h"

namespace apr {

// Fills config.moe and each layer's moe flag. config.layers and ffn_size must be resolved.
void ResolveMoe(ConfigReader& reader, const Architecture& architecture, ModelConfig& config);

// Fills config.latent, head_dim, v_head_dim and num_kv_heads for latent attention.
void ResolveLatent(ConfigReader& reader, ModelConfig& config);

}  // namespace apr
