// See splitter.h. The scanners' comments name the alternative of the pattern that each branch is.
#include "tokenizer/splitter.h"

#include <utility>

#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace apr {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

using unicode::kLetter;
using unicode::kMark;
using unicode::kNewline;
using unicode::kNumber;
using unicode::kSpace;

// A position in well-formed UTF-8 with the class of the character there.
class Cursor {
 public:
  Cursor(std::string_view text, const uint16_t* table)
      : begin_(text.data()), end_(text.data() + text.size()), table_(table) {}

  const char* end() const { return end_; }

  // Class bits and length of the character at p < end.
  struct Character {
    uint16_t flags;
    uint32_t length;
  };
  [[gnu::always_inline]] Character At(const char* p) const {
    const auto lead = static_cast<unsigned char>(*p);
    if (lead < 0x80) return {table_[lead], 1};
    const auto [cp, length] = unicode::DecodeValid(p);
    return {unicode::CharFlags(table_, cp), length};
  }
  uint16_t FlagsAt(const char* p) const { return p < end_ ? At(p).flags : 0; }

  // The end of the run from p of characters that have a bit of `any`.
  const char* Run(const char* p, uint16_t any) const {
    while (p < end_) {
      const Character c = At(p);
      if (!(c.flags & any)) break;
      p += c.length;
    }
    return p;
  }
  // The same for characters that have none of `none`.
  const char* RunWithout(const char* p, uint16_t none) const {
    while (p < end_) {
      const Character c = At(p);
      if (c.flags & none) break;
      p += c.length;
    }
    return p;
  }

  // White space at p, not followed by what another alternative takes: \s*[\r\n]+ if `newlines`,
  // then \s+(?!\S), then \s+.
  const char* Space(const char* p, bool newlines) const {
    const char* q = p;
    const char* last = p;  // begin of the run's last character
    const char* after_newline = nullptr;
    while (q < end_) {
      const Character c = At(q);
      if (!(c.flags & kSpace)) break;
      last = q;
      q += c.length;
      if (c.flags & kNewline) after_newline = q;
    }
    if (newlines && after_newline != nullptr) return after_newline;
    return q == end_ || last == p ? q : last;
  }

 private:
  const char* begin_;
  const char* end_;
  const uint16_t* table_;
};

inline char Fold(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// Length of a contraction ('s 't 're 've 'm 'll 'd) at p, where *p is an apostrophe; 0 if none.
// Without regard to case, U+017F (long s) counts as s.
template <bool kAnyCase>
size_t Contraction(const char* p, const char* end) {
  if (end - p < 2) return 0;
  const auto at = [p](int i) { return kAnyCase ? Fold(p[i]) : p[i]; };
  switch (at(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return end - p >= 3 && at(2) == 'e' ? 3 : 0;
    case 'l':
      return end - p >= 3 && at(2) == 'l' ? 3 : 0;
    case '\xC5':
      return kAnyCase && end - p >= 3 && p[2] == '\xBF' ? 3 : 0;
    default:
      return 0;
  }
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
struct Gpt2Rule {
  const char* Next(const Cursor& cursor, const char* p) const {
    if (*p == '\'') {
      if (const size_t length = Contraction<false>(p, cursor.end())) return p + length;
    }
    const char* q = p;
    Cursor::Character c = cursor.At(p);
    if (*p == ' ' && p + 1 < cursor.end()) {
      const Cursor::Character second = cursor.At(p + 1);
      if (!(second.flags & kSpace)) {
        q = p + 1;
        c = second;
      }
    }
    if (c.flags & kLetter) return cursor.Run(q + c.length, kLetter);
    if (c.flags & kNumber) return cursor.Run(q + c.length, kNumber);
    if (!(c.flags & kSpace)) return cursor.RunWithout(q + c.length, kSpace | kLetter | kNumber);
    return cursor.Space(p, false);
  }
};

// Each number character alone, else as Gpt2Rule between them.
struct DigitsGpt2Rule {
  const char* Next(const Cursor& cursor, const char* p) const {
    const Cursor::Character c = cursor.At(p);
    if (c.flags & kNumber) return p + c.length;
    if (*p == ' ' && (cursor.FlagsAt(p + 1) & kNumber)) return p + 1;
    if (c.flags & kSpace) {
      // A number ends the stretch, so white space before it stands at an end: all of it is taken.
      const char* run = cursor.Run(p, kSpace);
      if (run < cursor.end() && (cursor.At(run).flags & kNumber)) return run;
    }
    return gpt2.Next(cursor, p);
  }
  Gpt2Rule gpt2;
};

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*
// |\s*[\r\n]+|\s+(?!\S)|\s+ ; with `marks`, [\p{L}\p{M}]+ for \p{L}+ and no \p{M} in the fourth.
struct Cl100kRule {
  int digits;
  bool marks;

  const char* Next(const Cursor& cursor, const char* p) const {
    if (*p == '\'') {
      if (const size_t length = Contraction<true>(p, cursor.end())) return p + length;
    }
    const uint16_t word = marks ? kLetter | kMark : kLetter;
    const Cursor::Character c = cursor.At(p);
    if (c.flags & word) return cursor.Run(p + c.length, word);
    if (c.flags & kNumber) {
      const char* q = p + c.length;
      for (int i = 1; i != digits && q < cursor.end(); ++i) {
        const Cursor::Character d = cursor.At(q);
        if (!(d.flags & kNumber)) break;
        q += d.length;
      }
      return q;
    }
    const char* second = p + c.length;
    if (!(c.flags & kNewline) && second < cursor.end()) {
      const Cursor::Character d = cursor.At(second);
      if (d.flags & word) return cursor.Run(second + d.length, word);
      if (*p == ' ' && !(d.flags & (kSpace | kNumber))) return Other(cursor, second, word);
    }
    if (!(c.flags & kSpace)) return Other(cursor, p, word);
    return cursor.Space(p, true);
  }

  const char* Other(const Cursor& cursor, const char* p, uint16_t word) const {
    p = cursor.RunWithout(p, static_cast<uint16_t>(kSpace | kNumber | word));
    while (p < cursor.end() && (*p == '\r' || *p == '\n')) ++p;
    return p;
  }
};

template <typename Rule>
class Scanner final : public Splitter {
 public:
  explicit Scanner(Rule rule) : rule_(rule) {}
  void Split(std::string_view text, std::vector<uint32_t>& ends) const override {
    const Cursor cursor(text, table_);
    for (const char* p = text.data(); p < cursor.end();) {
      p = rule_.Next(cursor, p);
      ends.push_back(static_cast<uint32_t>(p - text.data()));
    }
  }

 private:
  Rule rule_;
  const uint16_t* table_ = unicode::CharTable();
};

class RegexSplitter final : public Splitter {
 public:
  explicit RegexSplitter(std::shared_ptr<const Regex> regex) : regex_(std::move(regex)) {}
  void Split(std::string_view text, std::vector<uint32_t>& ends) const override {
    uint32_t done = 0;
    regex_->ForEachMatch(text, [&](size_t begin, size_t end) {
      if (begin > done) ends.push_back(static_cast<uint32_t>(begin));
      if (end > begin) ends.push_back(static_cast<uint32_t>(end));
      done = static_cast<uint32_t>(end);
    });
    if (done < text.size()) ends.push_back(static_cast<uint32_t>(text.size()));
  }

 private:
  std::shared_ptr<const Regex> regex_;
};

class Chain final : public Splitter {
 public:
  explicit Chain(std::vector<std::unique_ptr<const Splitter>> stages)
      : stages_(std::move(stages)) {}
  void Split(std::string_view text, std::vector<uint32_t>& ends) const override {
    if (text.empty()) return;
    std::vector<uint32_t> pieces{static_cast<uint32_t>(text.size())};
    std::vector<uint32_t> cut;
    for (const auto& stage : stages_) {
      cut.clear();
      uint32_t begin = 0;
      for (const uint32_t end : pieces) {
        const size_t first = cut.size();
        stage->Split(text.substr(begin, end - begin), cut);
        for (size_t i = first; i < cut.size(); ++i) cut[i] += begin;
        begin = end;
      }
      std::swap(pieces, cut);
    }
    ends.insert(ends.end(), pieces.begin(), pieces.end());
  }

 private:
  std::vector<std::unique_ptr<const Splitter>> stages_;
};

// Published patterns, as the files spell them, that Cl100kRule stands for.
struct Cl100kPattern {
  const char* pattern;
  Cl100kRule rule;
};
constexpr Cl100kPattern kCl100kPatterns[] = {
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     {1, false}},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     {3, false}},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     {-1, false}},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     {1, true}},
};

}  // namespace

std::unique_ptr<const Splitter> MakeScanner(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return std::make_unique<Scanner<Gpt2Rule>>(Gpt2Rule{});
  for (const auto& known : kCl100kPatterns) {
    if (pattern == known.pattern) return std::make_unique<Scanner<Cl100kRule>>(known.rule);
  }
  return nullptr;
}

std::unique_ptr<const Splitter> MakeDigitsGpt2Scanner() {
  return std::make_unique<Scanner<DigitsGpt2Rule>>(DigitsGpt2Rule{});
}

std::unique_ptr<const Splitter> MakeRegexSplitter(std::shared_ptr<const Regex> regex) {
  return std::make_unique<RegexSplitter>(std::move(regex));
}

std::unique_ptr<const Splitter> MakeChain(std::vector<std::unique_ptr<const Splitter>> stages) {
  return std::make_unique<Chain>(std::move(stages));
}

}  // namespace apr
