// See sampling_flags.h.
#include "cli/sampling_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/flags.h"
#include "generate/gbnf.h"
#include "generate/json_schema.h"

namespace apr {

void AddSamplingFlags(Flags& app, SamplingFlags& flags) {
  SamplerOptions& o = flags.options;
  const auto add = [&](const char* name, auto& value, const char* help) {
    app.AddOption(name, value, help)->TypeName("X")->Group("Sampling")->ShowDefault();
  };
  add("--temperature", o.temperature, "0: always the most probable token");
  add("--top-k", o.top_k, "only the K most probable; 0: all");
  add("--top-p", o.top_p, "only the most probable that hold this mass");
  add("--min-p", o.min_p, "only those with this part of the largest probability");
  add("--typical", o.typical_p, "only the most typical that hold this mass");
  add("--repeat-penalty", o.repeat_penalty, "divides the logits of recent tokens; 1: none");
  add("--presence-penalty", o.presence_penalty, "subtracted from the logits of recent tokens");
  add("--frequency-penalty", o.frequency_penalty, "the same per occurrence");
  add("--repeat-last-n", o.repeat_last_n, "how many tokens are recent; -1: all");
  add("--dry-multiplier", o.dry_multiplier, "of the penalty on tokens that continue a repetition; 0: none");
  add("--dry-base", o.dry_base, "the penalty grows by this factor a token");
  add("--dry-allowed-length", o.dry_allowed_length, "repetitions of fewer tokens are not penalised");
  add("--dry-last-n", o.dry_last_n, "how many tokens are searched for repetitions; -1: all");
  app.AddOption("--dry-breaker", flags.dry_breakers, "a repetition ends at tokens that hold this text; may be given several times")
      ->TypeName("TEXT")
      ->Group("Sampling")
      ->Expected(1)
      ->TakeAll();
  add("--xtc-probability", o.xtc_probability, "how often the most probable tokens are excluded; 0: never");
  add("--xtc-threshold", o.xtc_threshold, "those of at least this probability, all but the last of them");
  app.AddOption("--mirostat", flags.mirostat, "2: holds the surprise at tau, instead of top-k, typical, top-p, min-p and XTC")
      ->Verify(Check::Range(0, 2))
      ->TypeName("N")
      ->Group("Sampling")
      ->ShowDefault();
  add("--mirostat-tau", o.mirostat_tau, "bits of surprise");
  add("--mirostat-eta", o.mirostat_eta, "how fast it follows");
  add("--seed", o.seed, "of the random numbers");
  app.AddOption("--logit-bias", flags.logit_bias, "added to a token's logit; may be given several times")
      ->TypeName("ID=BIAS")
      ->Group("Sampling")
      ->Expected(1)
      ->TakeAll();
  app.AddOption("--stop", flags.stops, "ends the answer before this text; may be given several times")
      ->TypeName("TEXT")
      ->Expected(1)
      ->TakeAll();
  app.AddOption("--grammar", flags.grammar_file, "the answer keeps to a GBNF grammar's rule root")->TypeName("FILE");
  app.AddOption("--json-schema", flags.schema_file, "the answer is JSON that satisfies a schema")->TypeName("FILE");
}

namespace {

// Tokens whose text holds a breaker.
TokenMask BreakerTokens(const std::vector<std::string>& breakers, const Tokenizer* tokenizer, int64_t vocab_size) {
  TokenMask mask(vocab_size);
  if (tokenizer == nullptr) return mask;
  for (int32_t id = 0; id < std::min<int64_t>(tokenizer->vocab_size(), vocab_size); ++id) {
    const std::string text = tokenizer->TokenBytes(id);
    for (const std::string& breaker : breakers) {
      if (!breaker.empty() && text.find(breaker) != text.npos) mask.Add(id);
    }
  }
  return mask;
}

}  // namespace

void CheckSamplingFlags(const SamplingFlags& flags) {
  if (flags.mirostat == 1) throw Error(ErrorCode::kUsage, "--mirostat: only version 2 is supported (0: none)");
  const Sampler check(ToSamplerOptions(flags, nullptr, 0));
}

std::shared_ptr<const Grammar> ReadGrammar(const SamplingFlags& flags) {
  if (!flags.grammar_file.empty() && !flags.schema_file.empty()) {
    throw Error(ErrorCode::kUsage, "--grammar and --json-schema exclude each other");
  }
  if (!flags.grammar_file.empty()) {
    const auto file = MappedFile::Open(flags.grammar_file);
    return std::make_shared<const Grammar>(ParseGbnf(AsText(file->bytes()), flags.grammar_file));
  }
  if (flags.schema_file.empty()) return nullptr;
  const auto file = MappedFile::Open(flags.schema_file);
  return std::make_shared<const Grammar>(GrammarOfJsonSchema(ParseJson(AsText(file->bytes()), flags.schema_file), flags.schema_file));
}

SamplerOptions ToSamplerOptions(const SamplingFlags& flags, const Tokenizer* tokenizer, int64_t vocab_size) {
  SamplerOptions options = flags.options;
  options.mirostat = flags.mirostat == 2;
  if (options.dry_multiplier != 0) options.dry_breakers = BreakerTokens(flags.dry_breakers, tokenizer, vocab_size);
  for (const std::string& text : flags.logit_bias) {
    const size_t equals = text.find('=');
    size_t id_end = 0;
    size_t bias_end = 0;
    try {
      const int id = std::stoi(text.substr(0, equals), &id_end);
      options.logit_bias[id] = std::stod(equals == text.npos ? "" : text.substr(equals + 1), &bias_end);
    } catch (const std::exception&) {
      id_end = 0;
    }
    if (id_end == 0 || id_end != equals || equals + 1 + bias_end != text.size()) {
      throw Error(ErrorCode::kUsage, fmt::format("--logit-bias: '{}' is not ID=BIAS", text));
    }
  }
  return options;
}

}  // namespace apr
