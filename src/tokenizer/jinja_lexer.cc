// See jinja_lexer.h. The order of rules and every corner of white-space control follow jinja2's
// lexer (pallets/jinja src/jinja2/lexer.py), which is defined by regular expressions; here they are
// scans.
#include "tokenizer/jinja_lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }

std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();  // keep_trailing_newline is off
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> Run() {
    while (at_ < source_.size()) Root();
    Push(TokenType::kEnd, {});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(const std::string& message) const {
    throw TemplateError(TemplateErrorKind::kSyntax, message, line_);
  }
  bool StartsWith(size_t at, std::string_view s) const {
    return std::string_view(source_).substr(std::min(at, source_.size())).starts_with(s);
  }
  void Push(TokenType type, std::string text) {
    Token token;
    token.type = type;
    token.line = line_;
    token.text = std::move(text);
    tokens_.push_back(std::move(token));
  }
  // Moves on, counting lines; remembers whether the text moved over ended a line.
  void AdvanceTo(size_t end) {
    line_ +=
        static_cast<uint32_t>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    if (end > at_) line_starting_ = source_[end - 1] == '\n';
    at_ = end;
  }
  size_t SkipSpace(size_t at) const {
    while (at < source_.size()) {
      size_t next = at;
      if (!IsSpace(DecodeAt(source_, &next))) break;
      at = next;
    }
    return at;
  }
  char SignAt(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  void Root();
  void EmitData(size_t end, char sign, bool variable);
  // Position behind "{% raw %}" that opens at `at`, or npos.
  size_t MatchRawBegin(size_t at) const;
  void Raw(size_t begin);
  void Comment();
  void Tag(bool variable);
  bool TryTagEnd(bool variable);
  void Word();
  bool TryNumber();
  bool TryInteger();
  void QuotedString();
  std::string Unescape(std::string_view body);
  void Escape(std::string_view body, size_t* i, std::string* out);
  void Operator();

  std::string source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
  std::string brackets_;  // closing brackets that are awaited
};

void Lexer::EmitData(size_t end, char sign, bool variable) {
  std::string_view text = std::string_view(source_).substr(at_, end - at_);
  if (sign == '-') {
    text = StripRight(text);
  } else if (sign != '+' && !variable) {
    const size_t newline = text.rfind('\n');
    const size_t begin = newline == text.npos ? 0 : newline + 1;
    if ((begin > 0 || line_starting_) && begin < text.size() && Strip(text.substr(begin)).empty()) {
      text = text.substr(0, begin);
    }
  }
  if (!text.empty()) Push(TokenType::kData, std::string(text));
}

size_t Lexer::MatchRawBegin(size_t at) const {
  size_t i = at + 2;
  if (SignAt(i) != '\0') ++i;
  i = SkipSpace(i);
  if (!StartsWith(i, "raw")) return std::string::npos;
  i = SkipSpace(i + 3);
  if (StartsWith(i, "-%}")) return SkipSpace(i + 3);
  return StartsWith(i, "%}") ? i + 2 : std::string::npos;
}

void Lexer::Root() {
  size_t open = at_;
  while (true) {
    open = source_.find('{', open);
    if (open == std::string::npos || open + 1 >= source_.size()) {
      Push(TokenType::kData, source_.substr(at_));
      AdvanceTo(source_.size());
      return;
    }
    const char kind = source_[open + 1];
    if (kind == '%' || kind == '{' || kind == '#') break;
    ++open;
  }
  const char sign = SignAt(open + 2);
  const bool variable = source_[open + 1] == '{';
  EmitData(open, sign, variable);
  if (source_[open + 1] == '%') {
    if (const size_t raw = MatchRawBegin(open); raw != std::string::npos) {
      AdvanceTo(raw);
      Raw(raw);
      return;
    }
  }
  AdvanceTo(open + 2 + (sign != '\0' ? 1 : 0));
  if (source_[open + 1] == '#') {
    Comment();
  } else {
    Push(variable ? TokenType::kVariableBegin : TokenType::kBlockBegin, {});
    Tag(variable);
  }
}

void Lexer::Raw(size_t begin) {
  for (size_t open = source_.find("{%", begin); open != std::string::npos;
       open = source_.find("{%", open + 1)) {
    size_t i = open + 2;
    const char sign = SignAt(i);
    if (sign != '\0') ++i;
    i = SkipSpace(i);
    if (!StartsWith(i, "endraw")) continue;
    i = SkipSpace(i + 6);
    size_t end;
    if (StartsWith(i, "+%}")) {
      end = i + 3;
    } else if (StartsWith(i, "-%}")) {
      end = SkipSpace(i + 3);
    } else if (StartsWith(i, "%}")) {
      end = i + (StartsWith(i + 2, "\n") ? 3 : 2);
    } else {
      continue;
    }
    EmitData(open, sign, false);
    AdvanceTo(end);
    return;
  }
  Fail("Missing end of raw directive");
}

void Lexer::Comment() {
  const size_t close = source_.find("#}", at_);
  if (close == std::string::npos) Fail("Missing end of comment tag");
  const char sign = close > at_ ? SignAt(close - 1) : '\0';
  size_t end = close + 2;
  if (sign == '-') {
    end = SkipSpace(end);
  } else if (sign != '+' && StartsWith(end, "\n")) {
    ++end;
  }
  AdvanceTo(end);
}

bool Lexer::TryTagEnd(bool variable) {
  if (!brackets_.empty()) return false;
  size_t end;
  if (variable) {
    if (StartsWith(at_, "-}}")) {
      end = SkipSpace(at_ + 3);
    } else if (StartsWith(at_, "}}")) {
      end = at_ + 2;
    } else {
      return false;
    }
  } else if (StartsWith(at_, "+%}")) {
    end = at_ + 3;
  } else if (StartsWith(at_, "-%}")) {
    end = SkipSpace(at_ + 3);
  } else if (StartsWith(at_, "%}")) {
    end = at_ + (StartsWith(at_ + 2, "\n") ? 3 : 2);
  } else {
    return false;
  }
  Push(variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, {});
  AdvanceTo(end);
  return true;
}

void Lexer::Tag(bool variable) {
  while (at_ < source_.size()) {
    if (TryTagEnd(variable)) return;
    if (const size_t next = SkipSpace(at_); next != at_) {
      AdvanceTo(next);
    } else if (TryNumber() || TryInteger()) {
    } else if (source_[at_] == '"' || source_[at_] == '\'') {
      QuotedString();
    } else {
      size_t next_char = at_;
      if (IsWord(DecodeAt(source_, &next_char))) {
        Word();
      } else {
        Operator();
      }
    }
  }
}

void Lexer::Word() {
  size_t end = at_;
  while (end < source_.size()) {
    size_t next = end;
    const char32_t c = DecodeAt(source_, &next);
    if (!IsWord(c) && (c < 0x80 || !IsIdentifier("a" + source_.substr(end, next - end)))) break;
    end = next;
  }
  std::string name = source_.substr(at_, end - at_);
  if (!IsIdentifier(name)) Fail("Invalid character in identifier");
  Push(TokenType::kName, std::move(name));
  AdvanceTo(end);
}

// Digits with single underscores between them; returns the position behind.
size_t ScanDigits(std::string_view s, size_t at) {
  size_t end = at;
  while (end < s.size()) {
    if (IsAsciiDigit(s[end])) {
      ++end;
    } else if (s[end] == '_' && end > at && end + 1 < s.size() && IsAsciiDigit(s[end + 1])) {
      end += 2;
    } else {
      break;
    }
  }
  return end;
}

bool Lexer::TryNumber() {
  const std::string_view s = source_;
  if (!IsAsciiDigit(s[at_]) || (at_ > 0 && s[at_ - 1] == '.')) return false;
  size_t end = ScanDigits(s, at_);
  bool is_float = false;
  if (end + 1 < s.size() && s[end] == '.' && IsAsciiDigit(s[end + 1])) {
    end = ScanDigits(s, end + 1);
    is_float = true;
  }
  if (end < s.size() && (s[end] == 'e' || s[end] == 'E')) {
    size_t digits = end + 1;
    if (digits < s.size() && (s[digits] == '+' || s[digits] == '-')) ++digits;
    if (digits < s.size() && IsAsciiDigit(s[digits])) {
      end = ScanDigits(s, digits);
      is_float = true;
    }
  }
  if (!is_float) return false;
  std::string text(s.substr(at_, end - at_));
  std::erase(text, '_');
  Push(TokenType::kFloat, text);
  tokens_.back().number = std::strtod(text.c_str(), nullptr);
  AdvanceTo(end);
  return true;
}

int DigitOf(char c) {
  if (IsAsciiDigit(c)) return c - '0';
  const char lower = static_cast<char>(c | 32);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

bool Lexer::TryInteger() {
  const std::string_view s = source_;
  if (!IsAsciiDigit(s[at_])) return false;
  int base = 10;
  size_t begin = at_;
  size_t end = at_;
  if (s[at_] == '0' && at_ + 1 < s.size()) {
    const char kind = static_cast<char>(s[at_ + 1] | 32);
    const int candidate = kind == 'b' ? 2 : kind == 'o' ? 8 : kind == 'x' ? 16 : 10;
    size_t first = at_ + 2;
    if (first < s.size() && s[first] == '_') ++first;
    if (candidate != 10 && first < s.size() && DigitOf(s[first]) < candidate) {
      base = candidate;
      begin = end = first;
    }
  }
  const bool zeros = base == 10 && s[at_] == '0';  // a leading zero takes only zeros with it
  while (end < s.size()) {
    const size_t digit = s[end] == '_' && end > begin && end + 1 < s.size() ? end + 1 : end;
    if (DigitOf(s[digit]) >= base || (zeros && s[digit] != '0')) break;
    end = digit + 1;
  }
  Int value = 0;
  for (size_t i = begin; i < end; ++i) {
    if (s[i] == '_') continue;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(DigitOf(s[i])), &value)) {
      Fail("integer beyond 128 bits");
    }
  }
  Push(TokenType::kInteger, std::string(s.substr(at_, end - at_)));
  tokens_.back().integer = value;
  AdvanceTo(end);
  return true;
}

void Lexer::QuotedString() {
  const char quote = source_[at_];
  size_t end = at_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size())
    Fail(fmt::format("unexpected char {} at {}", QuoteText({&quote, 1}), at_));
  Push(TokenType::kString, Unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
  AdvanceTo(end + 1);
}

std::string Lexer::Unescape(std::string_view body) {
  std::string out;
  out.reserve(body.size());
  for (size_t i = 0; i < body.size();) {
    if (body[i] != '\\') {
      out += body[i++];
    } else {
      Escape(body, &i, &out);
    }
  }
  return out;
}

// Appends what the escape at body[*i] stands for and moves behind it.
void Lexer::Escape(std::string_view body, size_t* i, std::string* out) {
  const char c = body[*i + 1];  // there is one: a lone \ would have hidden the closing quote
  *i += 2;
  constexpr std::string_view kLetters = "abfnrtv\\'\"";
  constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
  if (const size_t k = kLetters.find(c); k != kLetters.npos) {
    *out += kMeanings[k];
  } else if (c == '\n') {
    // A line that goes on in the next one.
  } else if (c >= '0' && c <= '7') {
    char32_t code = static_cast<char32_t>(c - '0');
    for (int n = 1; n < 3 && *i < body.size() && body[*i] >= '0' && body[*i] <= '7'; ++n) {
      code = code * 8 + static_cast<char32_t>(body[(*i)++] - '0');
    }
    AppendUtf8(out, code);
  } else if (c == 'x' || c == 'u' || c == 'U') {
    const int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    char32_t code = 0;
    for (int n = 0; n < digits; ++n, ++*i) {
      if (*i >= body.size() || DigitOf(body[*i]) > 15)
        Fail(fmt::format("truncated \\{} escape", c));
      code = code * 16 + static_cast<char32_t>(DigitOf(body[*i]));
    }
    if (code > 0x10FFFF) Fail("illegal Unicode character");
    AppendUtf8(out, code);
  } else if (c == 'N') {
    Fail("\\N escapes are not supported");
  } else if (static_cast<unsigned char>(c) < 0x80) {
    *out += '\\';
    *out += c;
  } else {
    // jinja2 turns other characters into escapes first, so the backslash takes that one's away.
    *i -= 1;
    const char32_t code = DecodeAt(body, i);
    *out += code < 0x100     ? fmt::format("\\x{:02x}", static_cast<uint32_t>(code))
            : code < 0x10000 ? fmt::format("\\u{:04x}", static_cast<uint32_t>(code))
                             : fmt::format("\\U{:08x}", static_cast<uint32_t>(code));
  }
}

void Lexer::Operator() {
  constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
  constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
  size_t size = 0;
  for (const std::string_view op : kTwo) {
    if (StartsWith(at_, op)) size = 2;
  }
  if (size == 0 && kOne.find(source_[at_]) != kOne.npos) size = 1;
  if (size == 0) {
    size_t next = at_;
    DecodeAt(source_, &next);
    Fail(fmt::format("unexpected char {} at {}", QuoteText(source_.substr(at_, next - at_)), at_));
  }
  const std::string op = source_.substr(at_, size);
  if (op == "(") brackets_ += ')';
  if (op == "[") brackets_ += ']';
  if (op == "{") brackets_ += '}';
  if (op == ")" || op == "]" || op == "}") {
    if (brackets_.empty()) Fail(fmt::format("unexpected '{}'", op));
    if (brackets_.back() != op[0]) {
      Fail(fmt::format("unexpected '{}', expected '{}'", op, brackets_.back()));
    }
    brackets_.pop_back();
  }
  Push(TokenType::kOperator, op);
  AdvanceTo(at_ + size);
}

}  // namespace

std::vector<Token> Tokenize(std::string_view source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

std::string Describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData:
      return "template data / text";
    case TokenType::kBlockBegin:
      return "begin of statement block";
    case TokenType::kBlockEnd:
      return "end of statement block";
    case TokenType::kVariableBegin:
      return "begin of print statement";
    case TokenType::kVariableEnd:
      return "end of print statement";
    case TokenType::kString:
      return "string";
    case TokenType::kInteger:
      return "integer";
    case TokenType::kFloat:
      return "float";
    case TokenType::kEnd:
      return "end of template";
    case TokenType::kName:
    case TokenType::kOperator:
      return token.text;
  }
  return {};
}

}  // namespace apr::jinja
