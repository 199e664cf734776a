// Perplexity: exp of the mean negative log-probability that a model gives the tokens of a text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/window_plan.h"
#include "generate/session.h"

namespace apr {

struct PerplexityResult {
  double ppl = 0;
  double mean_nll = 0;        // nats, as the plan weighs the windows
  double nll_error = 0;       // standard error of the mean over tokens, taken as independent
  double token_mean_nll = 0;  // the plain mean over the scored tokens
  int64_t num_tokens = 0;     // scored
  double ppl_error() const { return ppl * nll_error; }
};

// `log_probabilities`, if given, receives that of every scored token in order of the text. Throws what
// Session::Append throws.
PerplexityResult Perplexity(Session& session, std::span<const int32_t> ids, const WindowPlan& plan, const RunHooks& hooks,
                            std::vector<double>* log_probabilities = nullptr);

// Of natural-log probabilities that somebody measured. Throws kValidationFailed for an empty list and for a
// value that is not finite or above 0, with its index.
PerplexityResult PerplexityOf(std::span<const double> log_probabilities);

// A JSON array of numbers. Throws kInvalidFormat for anything else.
std::vector<double> ReadLogProbabilities(const std::string& path);

}  // namespace apr
