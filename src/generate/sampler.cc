// See sampler.h.
#include "generate/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "generate/repetition.h"

namespace apr {
namespace {

using Tokens = std::vector<TokenProbability>;

void Require(bool condition, const char* message) {
  if (!condition) throw Error(ErrorCode::kUsage, message);
}

Tokens ReadLogits(const TensorView& logits) {
  const auto count = static_cast<size_t>(logits.shape.num_elements());
  Tokens tokens(count);
  for (size_t i = 0; i < count; ++i) {
    const double value = logits.dtype == DType::kF64 ? LoadLe<double>(logits.bytes.data() + 8 * i)
                                                     : static_cast<double>(LoadLe<float>(logits.bytes.data() + 4 * i));
    if (std::isnan(value) || value == std::numeric_limits<double>::infinity()) {
      throw Error(ErrorCode::kInference, fmt::format("the logit of token {} is {}", i, value));
    }
    tokens[i] = {static_cast<int32_t>(i), value, 0};
  }
  if (tokens.empty()) throw Error(ErrorCode::kInference, "there are no logits");
  return tokens;
}

// The largest logit without a copy of them all: what greedy decoding does for every token.
template <typename Real>
int32_t ArgMax(Bytes bytes, const TokenMask* allowed) {
  const size_t count = bytes.size() / sizeof(Real);
  Real best = -std::numeric_limits<Real>::infinity();
  size_t at = count;
  for (size_t i = 0; i < count; ++i) {
    const Real value = LoadLe<Real>(bytes.data() + i * sizeof(Real));
    if (value <= best) continue;
    if (!(value < std::numeric_limits<Real>::infinity())) {
      throw Error(ErrorCode::kInference, fmt::format("the logit of token {} is {}", i, value));
    }
    if (allowed != nullptr && !allowed->Contains(static_cast<int64_t>(i))) continue;
    best = value;
    at = i;
  }
  if (at == count) throw Error(ErrorCode::kInference, "every token is excluded");
  return static_cast<int32_t>(at);
}

bool HasPenalties(const SamplerOptions& options) {
  return options.repeat_penalty != 1 || options.presence_penalty != 0 || options.frequency_penalty != 0;
}

// More probable first; equals by id, so that a result never depends on the sorting algorithm.
bool Before(const TokenProbability& a, const TokenProbability& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// Fills in probabilities at `temperature`.
void Softmax(Tokens& tokens, double temperature) {
  const double top = std::ranges::max_element(tokens, {}, &TokenProbability::logit)->logit;
  if (std::isinf(top)) throw Error(ErrorCode::kInference, "every token is excluded");
  double sum = 0;
  for (TokenProbability& token : tokens) {
    token.probability = std::exp((token.logit - top) / temperature);
    sum += token.probability;
  }
  for (TokenProbability& token : tokens) token.probability /= sum;
}

void ApplyBias(const SamplerOptions& options, Tokens& tokens) {
  for (const auto& [id, bias] : options.logit_bias) {
    if (id < 0 || static_cast<size_t>(id) >= tokens.size()) {
      throw Error(ErrorCode::kUsage, fmt::format("logit bias for token {}, but there are {}", id, tokens.size()));
    }
    tokens[static_cast<size_t>(id)].logit += bias;
  }
}

void ApplyPenalties(const SamplerOptions& options, std::span<const int32_t> history, Tokens& tokens) {
  if (!HasPenalties(options)) return;
  const auto all = static_cast<int64_t>(history.size());
  const int64_t window = options.repeat_last_n < 0 ? all : std::min(all, options.repeat_last_n);
  std::map<int32_t, int64_t> occurrences;
  for (const int32_t id : history.last(static_cast<size_t>(window))) ++occurrences[id];
  for (const auto& [id, count] : occurrences) {
    if (id < 0 || static_cast<size_t>(id) >= tokens.size()) continue;
    double& logit = tokens[static_cast<size_t>(id)].logit;
    logit = logit > 0 ? logit / options.repeat_penalty : logit * options.repeat_penalty;
    logit -= options.presence_penalty + options.frequency_penalty * static_cast<double>(count);
  }
}

void ApplyDry(const SamplerOptions& options, std::span<const int32_t> history, Tokens& tokens) {
  if (options.dry_multiplier == 0) return;
  constexpr double kMostPenalty = 1e300;
  const auto all = static_cast<int64_t>(history.size());
  const int64_t window = options.dry_last_n < 0 ? all : std::min(all, options.dry_last_n);
  for (const auto& [id, length] : RepetitionLengths(history.last(static_cast<size_t>(window)), options.dry_breakers)) {
    if (length < options.dry_allowed_length || id < 0 || static_cast<size_t>(id) >= tokens.size()) continue;
    const double penalty = options.dry_multiplier * std::pow(options.dry_base, static_cast<double>(length - options.dry_allowed_length));
    tokens[static_cast<size_t>(id)].logit -= std::min(penalty, kMostPenalty);
  }
}

// Keeps the shortest beginning whose probabilities add up to `mass`; at least one.
void KeepMass(Tokens& tokens, double mass) {
  double sum = 0;
  size_t keep = 0;
  while (keep < tokens.size() && (keep == 0 || sum < mass)) sum += tokens[keep++].probability;
  tokens.resize(keep);
}

void KeepTypical(Tokens& tokens, double mass) {
  Softmax(tokens, 1);
  double entropy = 0;
  for (const TokenProbability& t : tokens) {
    if (t.probability > 0) entropy -= t.probability * std::log(t.probability);
  }
  const auto distance = [&](const TokenProbability& t) { return std::abs(-std::log(t.probability) - entropy); };
  std::ranges::sort(tokens, [&](const TokenProbability& a, const TokenProbability& b) {
    const double da = distance(a);
    const double db = distance(b);
    return da != db ? da < db : Before(a, b);
  });
  KeepMass(tokens, mass);
  std::ranges::sort(tokens, Before);
}

void KeepProbable(const SamplerOptions& options, Tokens& tokens) {
  const bool by_rank = options.top_k > 0 && static_cast<size_t>(options.top_k) < tokens.size();
  if (!by_rank && options.typical_p >= 1 && options.top_p >= 1 && options.min_p <= 0) return;
  if (by_rank) {
    std::ranges::partial_sort(tokens, tokens.begin() + options.top_k, Before);
    tokens.resize(static_cast<size_t>(options.top_k));
  } else {
    std::ranges::sort(tokens, Before);
  }
  if (options.typical_p < 1) KeepTypical(tokens, options.typical_p);
  if (options.top_p < 1) {
    Softmax(tokens, 1);
    KeepMass(tokens, options.top_p);
  }
  if (options.min_p > 0) {
    Softmax(tokens, 1);
    const double least = options.min_p * tokens.front().probability;
    std::erase_if(tokens, [&](const TokenProbability& t) { return t.probability < least; });
  }
}

// Probabilities with the mixture that XTC makes: with probability `chance` the tokens of at least `threshold` but
// the last of them are gone. `tokens` in any order; comes back most probable first.
void ExcludeTopChoices(double chance, double threshold, double temperature, Tokens& tokens) {
  std::ranges::sort(tokens, Before);
  Softmax(tokens, 1);
  size_t above = 0;
  while (above < tokens.size() && tokens[above].probability >= threshold) ++above;
  Softmax(tokens, temperature);
  if (above < 2) return;
  Tokens cut(tokens.begin() + static_cast<ptrdiff_t>(above) - 1, tokens.end());
  Softmax(cut, temperature);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const double excluded = i + 1 < above ? 0 : cut[i + 1 - above].probability;
    tokens[i].probability = (1 - chance) * tokens[i].probability + chance * excluded;
  }
}

// Keeps what surprises by at most `most` bits, and the most probable token.
void KeepUnsurprising(double most, double temperature, Tokens& tokens) {
  std::ranges::sort(tokens, Before);
  Softmax(tokens, temperature);
  size_t keep = 1;
  while (keep < tokens.size() && -std::log2(tokens[keep].probability) <= most) ++keep;
  tokens.resize(keep);
  Softmax(tokens, temperature);
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options) : mu_(2 * options.mirostat_tau), options_(options), random_(options.seed) {
  Require(std::isfinite(options.temperature) && options.temperature >= 0, "temperature must be 0 or more");
  Require(options.top_k >= 0, "top-k must be 0 (all) or more");
  Require(options.top_p > 0 && options.top_p <= 1, "top-p must lie in (0, 1]");
  Require(options.min_p >= 0 && options.min_p <= 1, "min-p must lie in [0, 1]");
  Require(options.typical_p > 0 && options.typical_p <= 1, "typical must lie in (0, 1]");
  Require(std::isfinite(options.repeat_penalty) && options.repeat_penalty > 0, "repeat penalty must be more than 0");
  Require(std::isfinite(options.presence_penalty), "presence penalty must be finite");
  Require(std::isfinite(options.frequency_penalty), "frequency penalty must be finite");
  Require(options.repeat_last_n >= -1, "repeat-last-n must be -1 (all) or more");
  Require(std::isfinite(options.dry_multiplier) && options.dry_multiplier >= 0, "dry multiplier must be 0 (none) or more");
  Require(std::isfinite(options.dry_base) && options.dry_base >= 1, "dry base must be 1 or more");
  Require(options.dry_allowed_length >= 1, "dry allowed length must be 1 or more");
  Require(options.dry_last_n >= -1, "dry last n must be -1 (all) or more");
  Require(options.xtc_probability >= 0 && options.xtc_probability <= 1, "xtc probability must lie in [0, 1]");
  Require(options.xtc_threshold >= 0 && options.xtc_threshold <= 1, "xtc threshold must lie in [0, 1]");
  Require(std::isfinite(options.mirostat_tau) && options.mirostat_tau > 0, "mirostat tau must be more than 0");
  Require(std::isfinite(options.mirostat_eta) && options.mirostat_eta > 0, "mirostat eta must be more than 0");
}

std::vector<TokenProbability> Sampler::Distribution(const TensorView& logits, std::span<const int32_t> history,
                                                    const TokenMask* allowed) const {
  Tokens tokens = ReadLogits(logits);
  ApplyBias(options_, tokens);
  ApplyPenalties(options_, history, tokens);
  ApplyDry(options_, history, tokens);
  if (allowed != nullptr) std::erase_if(tokens, [&](const TokenProbability& t) { return !allowed->Contains(t.id); });
  if (tokens.empty()) throw Error(ErrorCode::kInference, "every token is excluded");
  if (options_.temperature == 0) {
    TokenProbability best = *std::ranges::min_element(tokens, Before);
    if (std::isinf(best.logit)) throw Error(ErrorCode::kInference, "every token is excluded");
    best.probability = 1;
    return {best};
  }
  if (options_.mirostat) {
    KeepUnsurprising(mu_, options_.temperature, tokens);
    return tokens;
  }
  KeepProbable(options_, tokens);
  if (options_.xtc_probability > 0) ExcludeTopChoices(options_.xtc_probability, options_.xtc_threshold, options_.temperature, tokens);
  else Softmax(tokens, options_.temperature);
  return tokens;
}

int32_t Sampler::Sample(const TensorView& logits, std::span<const int32_t> history, const TokenMask* allowed) {
  const int32_t id = Choose(logits, history, allowed);
  if (observer_) observer_(logits, id);
  return id;
}

int32_t Sampler::Choose(const TensorView& logits, std::span<const int32_t> history, const TokenMask* allowed) {
  if (options_.temperature == 0 && options_.logit_bias.empty() && !HasPenalties(options_) && options_.dry_multiplier == 0) {
    return logits.dtype == DType::kF64 ? ArgMax<double>(logits.bytes, allowed) : ArgMax<float>(logits.bytes, allowed);
  }
  const Tokens tokens = Distribution(logits, history, allowed);
  if (options_.temperature == 0) return tokens.front().id;
  const TokenProbability& drawn = Draw(tokens);
  if (options_.mirostat) mu_ -= options_.mirostat_eta * (-std::log2(drawn.probability) - options_.mirostat_tau);
  return drawn.id;
}

const TokenProbability& Sampler::Draw(const std::vector<TokenProbability>& tokens) {
  // 53 random bits, the same on every platform (std::uniform_real_distribution is not).
  double left = static_cast<double>(random_() >> 11) * 0x1p-53;
  for (const TokenProbability& token : tokens) {
    if (left < token.probability) return token;
    left -= token.probability;
  }
  // Rounding of the sum: the last token that can be drawn at all.
  for (size_t i = tokens.size(); i-- > 0;) {
    if (tokens[i].probability > 0) return tokens[i];
  }
  return tokens.front();
}

std::vector<TokenProbability> TopTokens(const TensorView& logits, size_t count) {
  Tokens tokens = ReadLogits(logits);
  Softmax(tokens, 1);
  count = std::min(count, tokens.size());
  std::ranges::partial_sort(tokens, tokens.begin() + static_cast<ptrdiff_t>(count), Before);
  tokens.resize(count);
  return tokens;
}

}  // namespace apr
