// See pattern.h.
#include "tokenizer/pattern.h"

#include <utility>

namespace apr {

Pattern Pattern::Literal(std::string text) {
  Pattern pattern;
  pattern.source_ = std::move(text);
  return pattern;
}

Pattern Pattern::Expression(std::string_view regex) {
  Pattern pattern;
  pattern.source_ = std::string(regex);
  pattern.regex_ = std::make_shared<const Regex>(regex);
  return pattern;
}

void Pattern::ForEachMatch(std::string_view text,
                           const std::function<void(size_t, size_t)>& match) const {
  if (regex_) return regex_->ForEachMatch(text, match);
  if (source_.empty()) return;
  for (size_t at = text.find(source_); at != std::string_view::npos;
       at = text.find(source_, at + source_.size())) {
    match(at, at + source_.size());
  }
}

}  // namespace apr
