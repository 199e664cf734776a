// Products with a weight in f64 as bisections need them: the weight rounded on the way, and what errors of the
// inputs amount to in each element of the result.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "compare/bisect/number_format.h"
#include "graph/weight.h"

namespace apr::bisect {

struct ProductInput {
  const WeightRef& weight;                 // [N, K]
  const std::optional<FloatType>& rounding;  // the type an engine loads it in; unset: as stored
  std::span<const double> x;               // [T, K]
};

// y[t, n] = sum over k of w[n, k] x[t, k], in one order whatever T and the number of threads are. `y`: [T, N].
void Product(const ProductInput& input, ThreadPool& pool, std::span<double> y);

// Standard deviation of y[t, n] where x[t, k] has variance `input.x[t, k]`, independent of each other:
// sqrt(sum over k of w[n, k]^2 x[t, k]).
void ProductSpread(const ProductInput& input, ThreadPool& pool, std::span<double> y);

}  // namespace apr::bisect
