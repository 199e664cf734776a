// See json_pattern.h.
#include "generate/json_pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "generate/grammar_text.h"

namespace apr {
namespace {

using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;

constexpr int kMostPatternNesting = 100;
const Ranges kDigits = {{'0', '9'}};
const Ranges kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpace = {{'\t', '\r'}, {' ', ' '}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                       {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

GrammarExpr Hex() { return GrammarExpr::Class({{'0', '9'}, {'a', 'f'}, {'A', 'F'}}); }

class PatternParser {
 public:
  PatternParser(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  GrammarExpr Run() {
    const bool begins = Take("^");
    std::string_view rest = text_;
    size_t slashes = 0;
    while (rest.size() > at_ + 1 + slashes && rest[rest.size() - 2 - slashes] == '\\') ++slashes;
    ends_ = rest.size() > at_ && rest.back() == '$' && slashes % 2 == 0;
    if (ends_) text_.remove_suffix(1);
    GrammarExpr inside = Choice(0);
    if (at_ < text_.size()) Fail("a ')' without its '('");
    // An anchor binds to one alternative only: of several, each must have its own.
    if (inside.kind == GrammarExpr::kChoice && (begins || ends_)) Fail("put alternatives between anchors into a group");
    std::vector<GrammarExpr> parts;
    if (!begins) parts.push_back(GrammarExpr::Repeat(JsonCharacterExpr(), 0, -1));
    parts.push_back(std::move(inside));
    if (!ends_) parts.push_back(GrammarExpr::Repeat(JsonCharacterExpr(), 0, -1));
    return GrammarExpr::Sequence(std::move(parts));
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("pattern '{}', character {}: {}", text_, at_, what), {.file = source_});
  }
  bool Is(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool Take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  GrammarExpr Choice(int depth) {
    std::vector<GrammarExpr> parts;
    do {
      std::vector<GrammarExpr> items;
      while (at_ < text_.size() && !Is('|') && !Is(')')) items.push_back(Repeated(depth));
      parts.push_back(GrammarExpr::Sequence(std::move(items)));
    } while (Take("|"));
    return parts.size() == 1 ? std::move(parts[0]) : GrammarExpr::Choice(std::move(parts));
  }

  GrammarExpr Repeated(int depth) {
    GrammarExpr item = Item(depth);
    int64_t least = 0;
    int64_t most = -1;
    if (Take("*")) {
    } else if (Take("+")) {
      least = 1;
    } else if (Take("?")) {
      most = 1;
    } else if (Take("{")) {
      least = most = Number();
      if (Take(",")) most = Is('}') ? -1 : Number();
      if (!Take("}") || (most >= 0 && most < least)) Fail("no count of repetitions");
    } else {
      return item;
    }
    Take("?");  // lazy or greedy: the same strings
    return GrammarExpr::Repeat(std::move(item), least, most);
  }

  int64_t Number() {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0) Fail("no count of repetitions");
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }

  GrammarExpr Item(int depth) {
    if (Take("(")) {
      if (depth >= kMostPatternNesting) Fail("groups are nested too deeply");
      if (Is('?') && !Take("?:")) Fail("only plain groups are supported");
      GrammarExpr group = Choice(depth + 1);
      if (!Take(")")) Fail("')' must stand here");
      return group;
    }
    if (Take("[")) return JsonClassExpr(CharacterClass());
    if (Take(".")) return JsonClassExpr(ComplementOf(kLineEnds));
    if (Is('^') || Is('$')) Fail("an anchor inside the pattern");
    if (Is('*') || Is('+') || Is('?') || Is('{')) Fail("nothing to repeat");
    return JsonClassExpr(One());
  }

  // A character or a class that a backslash names.
  Ranges One() {
    if (!Take("\\")) {
      const auto c = ReadUtf8(text_, at_);
      if (!c) Fail("not UTF-8");
      return {{*c, *c}};
    }
    if (at_ >= text_.size()) Fail("the escape has no end");
    const char c = text_[at_++];
    const auto single = [](uint32_t x) { return Ranges{{x, x}}; };
    switch (c) {
      case 'd': return kDigits;
      case 'D': return ComplementOf(kDigits);
      case 'w': return kWord;
      case 'W': return ComplementOf(kWord);
      case 's': return kSpace;
      case 'S': return ComplementOf(kSpace);
      case 'n': return single('\n');
      case 'r': return single('\r');
      case 't': return single('\t');
      case 'f': return single('\f');
      case 'v': return single('\v');
      case 'x': return single(Code(2));
      case 'u': return single(Code(4));
      default: break;
    }
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      --at_;
      Fail(fmt::format("'\\{}' is not supported", c));
    }
    return single(static_cast<uint8_t>(c));
  }

  uint32_t Code(size_t digits) {
    uint32_t value = 0;
    const std::string_view word = text_.substr(at_, digits);
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
    if (word.size() < digits || error != std::errc() || end != word.data() + digits) Fail("hexadecimal digits must stand here");
    at_ += digits;
    return value;
  }

  Ranges CharacterClass() {
    Ranges out;
    const bool negated = Take("^");
    while (!Is(']')) {
      if (at_ >= text_.size()) Fail("the class has no end");
      Ranges one = One();
      const bool range = Is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']';
      if (range && one.size() == 1 && one[0].first == one[0].second) {
        ++at_;
        const Ranges last = One();
        if (last.size() != 1 || last[0].first != last[0].second || last[0].first < one[0].first) Fail("no range");
        one[0].second = last[0].first;
      }
      out.insert(out.end(), one.begin(), one.end());
    }
    ++at_;
    return negated ? ComplementOf(std::move(out)) : out;
  }

  std::string_view text_;
  std::string source_;
  size_t at_ = 0;
  bool ends_ = false;
};

}  // namespace

GrammarExpr JsonCharacterExpr() {
  GrammarExpr plain = GrammarExpr::Class({{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}});
  GrammarExpr short_escape = GrammarExpr::Class({{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'}, {'r', 'r'}, {'t', 't'}});
  // Not D800 to DFFF.
  GrammarExpr code = GrammarExpr::Choice(
      {GrammarExpr::Sequence({GrammarExpr::Class({{'0', '9'}, {'a', 'c'}, {'e', 'f'}, {'A', 'C'}, {'E', 'F'}}), GrammarExpr::Repeat(Hex(), 3, 3)}),
       GrammarExpr::Sequence({GrammarExpr::Class({{'d', 'd'}, {'D', 'D'}}), GrammarExpr::Class({{'0', '7'}}), GrammarExpr::Repeat(Hex(), 2, 2)})});
  return GrammarExpr::Choice(
      {std::move(plain), GrammarExpr::Sequence({GrammarExpr::Text("\\"), GrammarExpr::Choice({std::move(short_escape), GrammarExpr::Sequence({GrammarExpr::Text("u"), std::move(code)})})})});
}

GrammarExpr JsonClassExpr(const std::vector<std::pair<uint32_t, uint32_t>>& ranges) {
  Ranges plain;
  std::vector<GrammarExpr> escaped;
  const auto escape = [&](uint32_t c) {
    constexpr std::pair<char, const char*> kShort[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"}, {'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}};
    for (const auto& [character, text] : kShort) {
      if (c == static_cast<uint32_t>(character)) return GrammarExpr::Text(text);
    }
    return GrammarExpr::Text(fmt::format("\\u{:04x}", c));
  };
  for (auto [first, last] : ranges) {
    for (; first <= last && first <= '\\'; ++first) {
      if (first < 0x20 || first == '"' || first == '\\') escaped.push_back(escape(first));
      else plain.emplace_back(first, first);
    }
    if (first <= last) plain.emplace_back(first, last);
  }
  if (!plain.empty() || escaped.empty()) escaped.push_back(GrammarExpr::Class(std::move(plain)));
  return escaped.size() == 1 ? std::move(escaped[0]) : GrammarExpr::Choice(std::move(escaped));
}

GrammarExpr JsonPatternExpr(std::string_view pattern, const std::string& source) { return PatternParser(pattern, source).Run(); }

}  // namespace apr
