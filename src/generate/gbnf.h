// Grammars in GBNF, the notation of ggml-org/llama.cpp (grammars/README.md): rules `name ::= ...`, literals,
// character classes, `.`, groups, alternatives, * + ? {m} {m,} {m,n}, comments. The text a grammar allows is that
// of its rule `root`. Token references (<[id]>, <think>) are refused.
#pragma once

#include <string>
#include <string_view>

#include "generate/grammar.h"

namespace apr {

// Throws kInvalidFormat with `source` and the byte offset; and what GrammarBuilder::Build throws.
Grammar ParseGbnf(std::string_view text, const std::string& source);

}  // namespace apr
