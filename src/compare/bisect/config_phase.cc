// The config phase of a bisection.
#include "compare/bisect/bisection.h"

namespace apr::bisect {

void RunConfigPhase(Bisection& b) { b.Note("the config phase looked at nothing"); }

}  // namespace apr::bisect
