// Factors that a quantiser moves from what makes a channel to what reads it, so that the model computes the same:
// AWQ (Lin et al. 2023, section 3.2; mit-han-lab/llm-awq awq/quantize/auto_scale.py) and SmoothQuant (Xiao et al. 2022,
// section 4).
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "compare/weight_diff.h"

namespace apr {

// Of rows that are different: those of a layer's attention or feed-forward part become explained if B's norm holds A's over
// some factors and all matrices that read it hold A's columns times them, up to what storing explains; likewise the rows of
// up and the columns of down, and those of v and o where every head has its own. All of a part, or nothing of it.
void ExplainChannelScales(const WeightPairs& pairs, std::vector<WeightRow>& rows, ThreadPool& pool);

}  // namespace apr
