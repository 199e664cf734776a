// What a grammar must not have: alternatives without end, rules that begin with themselves.
#pragma once

#include <optional>

#include "generate/grammar.h"

namespace apr {

// Removes alternatives that use a rule without a finite text. A rule all of whose alternatives do is left with
// none. Linear in the grammar.
void DropEndlessAlternatives(Grammar& grammar);

// A rule that is expanded again before a byte is read while something waits behind it, so that the stack would
// grow without end; nullopt: there is none. A rule that ends with itself is none. Linear in the grammar.
std::optional<uint32_t> FindLeftRecursion(const Grammar& grammar);

}  // namespace apr
