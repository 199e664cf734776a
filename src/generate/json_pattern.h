// The inside of JSON strings: characters, and a regular expression over them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "generate/grammar.h"

namespace apr {

// One character of a string as JSON spells it, escaped or not; escapes of surrogates are left out.
GrammarExpr JsonCharacterExpr();
// Characters of these ranges: as they stand, quotes, backslashes and control characters escaped in one way.
GrammarExpr JsonClassExpr(const std::vector<std::pair<uint32_t, uint32_t>>& ranges);

// What lies between the quotes of a string that matches an ECMA 262 pattern: literals, ., classes, \d \w \s and
// their complements, groups, |, * + ? {m,n}, ^ at the beginning and $ at the end; without these anything may
// stand before or behind. Throws kInvalidFormat for anything else (look-around, back references, ...), naming
// the place in the pattern.
GrammarExpr JsonPatternExpr(std::string_view pattern, const std::string& source);

}  // namespace apr
