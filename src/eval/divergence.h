// How far the predictions of model B lie from those of model A over a text, token by token (the figures of
// ggml-org/llama.cpp, tools/perplexity/README.md), and how far rounding alone puts A from itself.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/json_fwd.h"
#include "eval/moments.h"
#include "eval/window_plan.h"
#include "generate/session.h"

namespace apr {

// Values of every scored token, sorted.
struct TokenDistribution {
  std::vector<double> sorted;
  double mean = 0;
  double error = 0;  // standard error of the mean
  Json ToJson() const;  // mean, error, min, p1, p5, p10, median, p90, p95, p99, p99_9, max
};

struct Divergence {
  TokenDistribution kld;      // nats
  TokenDistribution delta_p;  // probability of the text's token: B less A, in percent points
  double rms_delta_p = 0;     // percent points
  double rms_delta_p_error = 0;
  double top1 = 0;            // part of the tokens where both find the same token most probable
  double top1_error = 0;
  double ppl_a = 0, ppl_b = 0;
  double ppl_a_error = 0, ppl_b_error = 0;
  double log_ratio = 0;       // ln(ppl_b / ppl_a)
  double log_ratio_error = 0; // from the differences token by token
  double correlation = 0;     // of the two negative log-probabilities
  int64_t num_tokens = 0;

  Json ToJson() const;
};

// Both run the same windows block by block; logits of more than one block never exist. Throws kValidationFailed if the vocabularies differ in size, and what
// Session::Append throws.
Divergence Diverge(Session& a, Session& b, std::span<const int32_t> ids, const WindowPlan& plan, const RunHooks& hooks);

}  // namespace apr
