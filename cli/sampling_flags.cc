// See sampling_flags.h.
#include "cli/sampling_flags.h"

#include <fmt/format.h>

#include "base/error.h"
#include "cli/flags.h"

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
  add("--seed", o.seed, "of the random numbers");
  app.AddOption("--logit-bias", flags.logit_bias, "added to a token's logit; may be given several times")
      ->TypeName("ID=BIAS")
      ->Group("Sampling")
      ->Expected(1)
      ->TakeAll();
}

SamplerOptions ToSamplerOptions(const SamplingFlags& flags) {
  SamplerOptions options = flags.options;
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
