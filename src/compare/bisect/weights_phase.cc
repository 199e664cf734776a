// The weights phase of a bisection.
#include "compare/bisect/bisection.h"

namespace apr::bisect {

void RunWeightsPhase(Bisection& b) { b.Note("the weights phase looked at nothing"); }

}  // namespace apr::bisect
