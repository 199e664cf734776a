// The flags of the sampler: src/generate/sampler.h says in which order they act.
#pragma once

#include <string>
#include <vector>

#include "generate/sampler.h"

namespace apr {

class Flags;

struct SamplingFlags {
  SamplerOptions options;
  std::vector<std::string> logit_bias;  // "ID=BIAS"
};
// `options` carries the command's defaults.
void AddSamplingFlags(Flags& app, SamplingFlags& flags);
// Throws kUsage for a malformed bias.
SamplerOptions ToSamplerOptions(const SamplingFlags& flags);

}  // namespace apr
