// Factors that a quantiser moves from what makes a channel to what reads it, so that the model computes the same:
// AWQ (Lin et al. 2023, section 3.2; mit-han-lab/llm-awq awq/quantize/auto_scale.py) and SmoothQuant (Xiao et al. 2022,
// section 4).
#pragma once

#include <map>
#include <vector>

#include "base/thread_pool.h"
#include "compare/weight_diff.h"

namespace apr {

// What B's rows and columns were multiplied by over A's; empty: by nothing.
struct ChannelScale {
  std::vector<double> rows, cols;
};

// Of rows that are different: those of a layer's attention or feed-forward part become explained if B's norm holds A's over
// some factors and all matrices that read it hold A's columns times them, up to what storing explains; likewise the rows of
// up and the columns of down, and those of v and o where every head has its own. All of a part, or nothing of it.
// Returns what was found, by slot; of a norm, nothing: it is A's.
std::map<SlotKey, ChannelScale> ExplainChannelScales(const WeightPairs& pairs, std::vector<WeightRow>& rows, ThreadPool& pool);

// The weight with `scale` taken back: F32, computed while it is held, and judged by what storing it before had made of it. The
// file of `weight` must stay open.
WeightRef ScaledBack(const WeightRef& weight, const ChannelScale& scale);

}  // namespace apr
