// Two captured runs without their model: compared element by element in causal order; what needs no weights is computed
// again, with the constants that A's run shows.
#pragma once

#include "compare/bisect/bisection.h"

namespace apr::bisect {

// Adds findings, scores and coverage. Both sides are stage directories.
void CompareStageDirectories(Bisection& b);

}  // namespace apr::bisect
