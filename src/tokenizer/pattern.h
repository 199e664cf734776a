// The pattern of a Split or Replace step: a literal string or a regular expression.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/regex.h"

namespace apr {

class Pattern {
 public:
  static Pattern Literal(std::string text);
  static Pattern Expression(std::string_view regex);

  // As Regex::ForEachMatch.
  void ForEachMatch(std::string_view text, const std::function<void(size_t, size_t)>& match) const;

  const std::string& source() const { return source_; }
  const std::shared_ptr<const Regex>& regex() const { return regex_; }  // nullptr: a literal

 private:
  std::string source_;
  std::shared_ptr<const Regex> regex_;
};

}  // namespace apr
