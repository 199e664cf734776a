// The steps of attention and of expert routing one by one, in f64, for walking a run that recorded what lies
// between them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "compare/bisect/walk_model.h"
#include "op/attention/attention.h"
#include "op/moe/moe_route.h"

namespace apr::bisect {

// [heads, T, T], scaled and soft-capped, nothing masked.
std::vector<double> AttentionScores(const AttentionAttributes& a, const AttentionTwist& twist, const std::vector<double>& q,
                                    const std::vector<double>& k, int64_t tokens, ThreadPool& pool);
// softmax over the keys that a query sees; 0 elsewhere.
std::vector<double> AttentionSoftmax(const AttentionAttributes& a, const AttentionTwist& twist, const std::vector<double>& scores,
                                     const std::vector<double>& sinks, int64_t tokens, ThreadPool& pool);
// [T, heads * v_dim].
std::vector<double> AttentionOutput(const AttentionAttributes& a, const AttentionTwist& twist, const std::vector<double>& p,
                                    const std::vector<double>& v, int64_t tokens, ThreadPool& pool);
// First and last key (inclusive) that the query at `position` sees.
struct KeyRange {
  int64_t first = 0, last = 0;
};
KeyRange VisibleKeys(const AttentionAttributes& a, const AttentionTwist& twist, int64_t position, int64_t tokens);

// moe_route's weights [T, k] for given experts.
std::vector<double> RouteWeights(const MoeRouteAttributes& a, const std::vector<double>& logits, const std::vector<double>& indices,
                                 int64_t tokens);

}  // namespace apr::bisect
