// Regular expressions of tokenizer files, matched by PCRE2 with its JIT. The files are written for
// Oniguruma with Ruby syntax; the pattern is rewritten where PCRE2 reads it otherwise (\s, \h,
// possessive bounds, (?m)). Matching is bounded: a pattern that backtracks beyond the limits ends
// in an Error.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace apr {

class Regex {
 public:
  // Throws kModelLoad with the pattern and PCRE2's message if it does not compile.
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Calls `match(begin, end)` for each match from left to right, not overlapping; after an empty
  // match the search goes on one character later. `text` must be well-formed UTF-8. Throws
  // kInvalidFormat when the match limits are reached.
  void ForEachMatch(std::string_view text, const std::function<void(size_t, size_t)>& match) const;

  const std::string& pattern() const { return pattern_; }

 private:
  struct Code;
  std::string pattern_;
  std::unique_ptr<Code> code_;
};

}  // namespace apr
