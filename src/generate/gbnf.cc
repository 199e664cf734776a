// See gbnf.h.
#include "generate/gbnf.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "base/error.h"
#include "generate/grammar_text.h"

namespace apr {
namespace {

constexpr int kMostNesting = 200;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& source) : text_(text), source_(source), builder_(source) {}

  Grammar Run() {
    SkipSpace(true);
    while (at_ < text_.size()) Rule();
    return builder_.Build("root");
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(ErrorCode::kInvalidFormat, what, {.file = source_, .offset = at_});
  }

  bool Is(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool Take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  // Blanks and comments, line ends too where `lines`.
  void SkipSpace(bool lines) {
    while (at_ < text_.size()) {
      if (Is('#')) {
        while (at_ < text_.size() && !Is('\n') && !Is('\r')) ++at_;
      } else if (Is(' ') || Is('\t') || (lines && (Is('\n') || Is('\r')))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string Name() {
    const size_t begin = at_;
    while (at_ < text_.size() && IsNameCharacter(text_[at_])) ++at_;
    if (at_ == begin) Fail("a rule name must stand here");
    return std::string(text_.substr(begin, at_ - begin));
  }

  void Rule() {
    const size_t begin = at_;
    const uint32_t rule = builder_.RuleNamed(Name());
    SkipSpace(false);
    if (!Take("::=")) Fail("'::=' must stand here");
    if (builder_.IsDefined(rule)) {
      at_ = begin;
      Fail("the rule is defined twice");
    }
    SkipSpace(true);
    const GrammarExpr expression = Choice(0);
    builder_.Define(rule, expression);
    if (at_ < text_.size() && !Is('\n') && !Is('\r')) Fail(Is(')') ? "a ')' without its '('" : "the rule must end here");
    SkipSpace(true);
  }

  GrammarExpr Choice(int depth) {
    std::vector<GrammarExpr> parts;
    while (true) {
      parts.push_back(Sequence(depth));
      if (!Take("|")) break;
      SkipSpace(true);
    }
    return parts.size() == 1 ? std::move(parts[0]) : GrammarExpr::Choice(std::move(parts));
  }

  GrammarExpr Sequence(int depth) {
    std::vector<GrammarExpr> parts;
    while (at_ < text_.size()) {
      GrammarExpr item;
      if (!Item(depth, item)) break;
      while (Repetition(item)) {
      }
      parts.push_back(std::move(item));
      SkipSpace(depth > 0);
    }
    return GrammarExpr::Sequence(std::move(parts));
  }

  bool Item(int depth, GrammarExpr& out) {
    if (Is('"')) {
      out = Literal();
    } else if (Is('[')) {
      out = CharacterClass();
    } else if (Take(".")) {
      out = GrammarExpr::Class({{0, 0x10FFFF}});
    } else if (Is('(')) {
      if (depth >= kMostNesting) Fail(fmt::format("groups are nested deeper than {}", kMostNesting));
      ++at_;
      SkipSpace(true);
      out = Choice(depth + 1);
      if (!Take(")")) Fail("')' must stand here");
    } else if (at_ < text_.size() && IsNameCharacter(text_[at_])) {
      out = GrammarExpr::Rule(builder_.RuleNamed(Name()));
    } else if (Is('<') || Is('!')) {
      Fail("references to tokens are not supported: a grammar describes text");
    } else {
      return false;
    }
    SkipSpace(depth > 0);
    return true;
  }

  GrammarExpr Literal() {
    std::string text;
    ++at_;
    while (!Is('"')) {
      if (at_ >= text_.size() || Is('\n')) Fail("the literal has no end");
      unicode::AppendUtf8(Character(), text);
    }
    ++at_;
    return GrammarExpr::Text(std::move(text));
  }

  GrammarExpr CharacterClass() {
    std::vector<std::pair<uint32_t, uint32_t>> ranges;
    ++at_;
    const bool negated = Take("^");
    while (!Is(']')) {
      if (at_ >= text_.size() || Is('\n')) Fail("the character class has no end");
      const uint32_t first = Character();
      uint32_t last = first;
      if (Is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        if (at_ >= text_.size()) Fail("the character class has no end");
        last = Character();
        if (last < first) Fail("the range ends before it begins");
      }
      ranges.emplace_back(first, last);
    }
    ++at_;
    return GrammarExpr::Class(negated ? ComplementOf(std::move(ranges)) : std::move(ranges));
  }

  // One character, maybe escaped.
  uint32_t Character() {
    if (!Take("\\")) {
      const auto c = ReadUtf8(text_, at_);
      if (!c) Fail("the text is not UTF-8");
      return *c;
    }
    if (at_ >= text_.size()) Fail("the escape has no end");
    const char c = text_[at_++];
    switch (c) {
      case 'x': return Hex(2);
      case 'u': return Hex(4);
      case 'U': return Hex(8);
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      case '\\': case '"': case '[': case ']': case '-': case '^': return static_cast<uint8_t>(c);
      default: --at_; Fail(fmt::format("unknown escape '\\{}'", c));
    }
  }

  uint32_t Hex(size_t digits) {
    uint32_t value = 0;
    const std::string_view word = text_.substr(at_, digits);
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
    if (word.size() < digits || error != std::errc() || end != word.data() + digits) Fail(fmt::format("{} hexadecimal digits must stand here", digits));
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) Fail("no character has this number");
    at_ += digits;
    return value;
  }

  bool Repetition(GrammarExpr& item) {
    int64_t least = 0;
    int64_t most = -1;
    if (Take("*")) {
    } else if (Take("+")) {
      least = 1;
    } else if (Take("?")) {
      most = 1;
    } else if (Take("{")) {
      least = Number();
      most = least;
      if (Take(",")) most = Is('}') ? -1 : Number();
      if (!Take("}")) Fail("'}' must stand here");
      if (most >= 0 && most < least) Fail("the largest number of repetitions is below the least");
    } else {
      return false;
    }
    item = GrammarExpr::Repeat(std::move(item), least, most);
    SkipSpace(false);
    if (++repetitions_ > kMostNesting) Fail("repetitions of repetitions are nested too deeply");
    const bool again = Is('*') || Is('+') || Is('?') || Is('{');
    if (!again) repetitions_ = 0;
    return true;
  }

  int64_t Number() {
    SkipSpace(false);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0) Fail("a number of repetitions must stand here");
    at_ = static_cast<size_t>(end - text_.data());
    SkipSpace(false);
    return value;
  }

  std::string_view text_;
  std::string source_;
  GrammarBuilder builder_;
  size_t at_ = 0;
  int repetitions_ = 0;
};

}  // namespace

Grammar ParseGbnf(std::string_view text, const std::string& source) { return Parser(text, source).Run(); }

}  // namespace apr
