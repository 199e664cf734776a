// The flags of the sampler: src/generate/sampler.h says in which order they act. And those that end a text or
// hold it to a grammar.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "generate/grammar.h"
#include "generate/sampler.h"
#include "tokenizer/tokenizer.h"

namespace apr {

class Flags;

struct SamplingFlags {
  SamplerOptions options;
  std::vector<std::string> logit_bias;  // "ID=BIAS"
  std::vector<std::string> dry_breakers = {"\n", ":", "\"", "*"};
  int mirostat = 0;
  std::vector<std::string> stops;
  std::string grammar_file, schema_file;
};
// `options` carries the command's defaults.
void AddSamplingFlags(Flags& app, SamplingFlags& flags);
// Throws kUsage for a malformed bias. `tokenizer` (nullable): finds the tokens that hold a breaker of DRY.
SamplerOptions ToSamplerOptions(const SamplingFlags& flags, const Tokenizer* tokenizer, int64_t vocab_size);
// Throws kUsage for values out of their range, before a model is there.
void CheckSamplingFlags(const SamplingFlags& flags);
// What --grammar or --json-schema describes; null: neither was given. Throws what their parsers throw.
std::shared_ptr<const Grammar> ReadGrammar(const SamplingFlags& flags);

}  // namespace apr
