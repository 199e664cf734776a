// The tokens phase of a bisection.
#include "compare/bisect/bisection.h"

namespace apr::bisect {

void RunTokensPhase(Bisection& b) { b.Note("the tokens phase looked at nothing"); }

}  // namespace apr::bisect
