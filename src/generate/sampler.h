// From logits to the next token.
//
// Order, each step on what the one before left:
//   1. logit bias: l += bias[id]
//   2. penalties over the last `repeat_last_n` tokens: repetition (l > 0 ? l / p : l * p; arXiv
//      1909.05858, equation 2, with the sign rule that transformers' RepetitionPenaltyLogitsProcessor
//      has), then l -= presence + frequency * occurrences
//   3. DRY: l -= multiplier * base^(n - allowed) for a token that would continue a repetition of n >= allowed
//      tokens (repetition.h)
//   4. top-k: the k largest
//   5. typical: the smallest set nearest in surprise to the entropy that holds mass `typical_p`
//      (arXiv 2202.00666, equation 10)
//   6. top-p: the smallest set of the most probable that holds mass `top_p` (arXiv 1904.09751)
//   7. min-p: those with at least `min_p` times the largest probability (arXiv 2407.01082)
//   8. XTC: with probability `xtc_probability`, of the tokens of at least `xtc_threshold` only the least
//      probable stays (p-e-w, oobabooga/text-generation-webui pull request 6335)
//   9. temperature: p ~ exp(l / temperature); one draw
// Mirostat 2 (arXiv 2007.14966, algorithm 2) takes the place of 4 to 8 and follows the temperature: tokens of a
// surprise -log2 p above mu go, at least one stays; after each draw mu -= eta * (surprise - tau), the surprise
// that of the renormalised probability; mu starts at 2 tau.
// Temperature 0 takes the largest logit after step 3, the lowest id among equals.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "generate/token_mask.h"
#include "tensor/tensor.h"

namespace apr {

struct SamplerOptions {
  double temperature = 0;
  int64_t top_k = 0;         // 0: all
  double top_p = 1;
  double min_p = 0;
  double typical_p = 1;
  double repeat_penalty = 1;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  int64_t repeat_last_n = 64;  // 0: no penalties; -1: the whole sequence
  double dry_multiplier = 0;  // 0: no DRY
  double dry_base = 1.75;
  int64_t dry_allowed_length = 2;
  int64_t dry_last_n = -1;   // -1: the whole sequence
  TokenMask dry_breakers;    // tokens that end a repetition
  double xtc_probability = 0;
  double xtc_threshold = 0.1;
  bool mirostat = false;
  double mirostat_tau = 5;   // bits of surprise aimed at
  double mirostat_eta = 0.1;
  std::map<int32_t, double> logit_bias;
  uint64_t seed = 299792458;
};

struct TokenProbability {
  int32_t id = 0;
  double logit = 0;
  double probability = 0;
};

class Sampler {
 public:
  // Throws kUsage naming the option that is out of its range.
  explicit Sampler(const SamplerOptions& options);

  // `logits`: [V] or [1, V], f32 or f64. `history`: tokens of the sequence so far, oldest first. Throws
  // kInference if a logit is NaN or +infinity, or no token is left. `allowed`: only these tokens, as if the
  // others were not there after step 3; null: all.
  int32_t Sample(const TensorView& logits, std::span<const int32_t> history, const TokenMask* allowed = nullptr);

  // What Sample draws from, in the order of drawing. One entry with probability 1 at temperature 0.
  std::vector<TokenProbability> Distribution(const TensorView& logits, std::span<const int32_t> history,
                                             const TokenMask* allowed = nullptr) const;

  double mirostat_mu() const { return mu_; }

  // Called by Sample with the logits as they came and the token that was taken.
  using Observer = std::function<void(const TensorView& logits, int32_t id)>;
  void set_observer(Observer observer) { observer_ = std::move(observer); }

 private:
  int32_t Choose(const TensorView& logits, std::span<const int32_t> history, const TokenMask* allowed);
  const TokenProbability& Draw(const std::vector<TokenProbability>& tokens);

  double mu_;  // most surprise that mirostat lets pass
  SamplerOptions options_;
  std::mt19937_64 random_;
  Observer observer_;
};

// The `count` most probable tokens of plain softmax, most probable first.
std::vector<TokenProbability> TopTokens(const TensorView& logits, size_t count);

}  // namespace apr
