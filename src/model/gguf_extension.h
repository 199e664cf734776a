// The apr.* keys of a GGUF: what its standard keys cannot say about a model, under Hugging Face's
// name. Table: docs/formats/gguf.md.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "format/meta_value.h"
#include "model/architecture.h"
#include "model/config.h"

namespace apr {

// Adds to `metadata` what is missing until `resolve()`, which reads it as a reader would, gives
// `config`. Returns the keys that change what other engines compute; keys that only say a number in
// double precision are added without a word. Throws kModelLoad naming the field that no key expresses.
std::vector<std::string> ExtendGguf(const ModelConfig& config, const Architecture& architecture, MetaBuilder& metadata,
                                    const std::function<ModelConfig()>& resolve);

// The rope scaling as config.json's rope_parameters say it. `per_type`: below full_attention.
// Returns the name of the group.
std::string ExtendRope(const RopeTableAttributes& table, bool per_type, MetaBuilder& metadata);

}  // namespace apr
