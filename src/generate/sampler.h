// From logits to the next token.
//
// Order, each step on what the one before left:
//   1. logit bias: l += bias[id]
//   2. penalties over the last `repeat_last_n` tokens: repetition (l > 0 ? l / p : l * p; arXiv
//      1909.05858, equation 2, with the sign rule that transformers' RepetitionPenaltyLogitsProcessor
//      has), then l -= presence + frequency * occurrences
//   3. top-k: the k largest
//   4. typical: the smallest set nearest in surprise to the entropy that holds mass `typical_p`
//      (arXiv 2202.00666, equation 10)
//   5. top-p: the smallest set of the most probable that holds mass `top_p` (arXiv 1904.09751)
//   6. min-p: those with at least `min_p` times the largest probability (arXiv 2407.01082)
//   7. temperature: p ~ exp(l / temperature); one draw
// Temperature 0 takes the largest logit after step 2, the lowest id among equals.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <vector>

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
  // kInference if a logit is NaN or +infinity, or no token is left.
  int32_t Sample(const TensorView& logits, std::span<const int32_t> history);

  // What Sample draws from, in the order of drawing. One entry with probability 1 at temperature 0.
  std::vector<TokenProbability> Distribution(const TensorView& logits, std::span<const int32_t> history) const;

 private:
  SamplerOptions options_;
  std::mt19937_64 random_;
};

// The `count` most probable tokens of plain softmax, most probable first.
std::vector<TokenProbability> TopTokens(const TensorView& logits, size_t count);

}  // namespace apr
