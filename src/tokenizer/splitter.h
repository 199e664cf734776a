// Cutting a text into the pieces that byte-pair merging never crosses, by a published pattern.
// Patterns of wide use have hand-written scanners (linear, no backtracking); any other pattern runs
// in PCRE2. Both give the same pieces; a test compares them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace apr {

class Regex;

class Splitter {
 public:
  virtual ~Splitter() = default;
  // Appends to `ends` the ends of the consecutive, non-empty pieces that cover `text` (well-formed
  // UTF-8, less than 4 GiB). Throws kInvalidFormat where a pattern exceeds its matching limits.
  virtual void Split(std::string_view text, std::vector<uint32_t>& ends) const = 0;
};

// GPT-2's pattern (openai/gpt-2, src/encoder.py).
extern const char kGpt2Pattern[];

// The scanner for a pattern as tokenizer.json spells it, or nullptr.
std::unique_ptr<const Splitter> MakeScanner(std::string_view pattern);
// Every \p{N} alone, then GPT-2's pattern on what lies between (StarCoder, SmolLM, ...).
std::unique_ptr<const Splitter> MakeDigitsGpt2Scanner();
// Matches of `regex` and what lies between them are pieces.
std::unique_ptr<const Splitter> MakeRegexSplitter(std::shared_ptr<const Regex> regex);
// Applies each splitter to the pieces of the one before.
std::unique_ptr<const Splitter> MakeChain(std::vector<std::unique_ptr<const Splitter>> stages);

}  // namespace apr
