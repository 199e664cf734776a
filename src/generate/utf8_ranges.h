// A range of code points as the byte strings that spell it.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace apr {

// Each entry: the ranges of the first byte, the second ... of strings that spell code points of [first, last];
// together they spell all of them, surrogates left out (the construction of Russ Cox's RE2,
// re2/compile.cc, and of rust-lang/regex, regex-syntax/src/utf8.rs).
using ByteRanges = std::vector<std::pair<uint8_t, uint8_t>>;
std::vector<ByteRanges> Utf8Ranges(uint32_t first, uint32_t last);

}  // namespace apr
