// "..." % values and "...".format(values). See jinja_format.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

// repr() with everything beyond ASCII escaped.
std::string Ascii(Runtime& rt, const Value& value) {
  const std::string text = Repr(rt, value);
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = DecodeAt(text, &i);
    const auto code = static_cast<uint32_t>(c);
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else {
      out += c < 0x100     ? fmt::format("\\x{:02x}", code)
             : c < 0x10000 ? fmt::format("\\u{:04x}", code)
                           : fmt::format("\\U{:08x}", code);
    }
  }
  return out;
}

// One run of a "%" format.
class PercentFormatter {
 public:
  PercentFormatter(Runtime& rt, const Value& format, const Value& arguments)
      : rt_(rt), text_(Text(format)), markup_(As<Str>(format).markup), arguments_(arguments) {
    const bool tuple = arguments.type() == Type::kTuple;
    if (tuple) {
      positional_ = Items(arguments);
    } else {
      positional_.push_back(arguments);
    }
    // As CPython sees it: anything that can be subscripted, but for str and tuple.
    mapping_ = arguments.type() == Type::kDict || arguments.type() == Type::kList ||
               arguments.type() == Type::kRange || arguments.is_undefined();
  }

  std::string Run() {
    while (at_ < text_.size()) {
      const size_t percent = std::min(text_.find('%', at_), text_.size());
      Append(text_.substr(at_, percent - at_));
      at_ = percent;
      if (at_ < text_.size()) {
        ++at_;
        Conversion();
      }
    }
    if (next_ < positional_.size() && !mapping_) {
      rt_.FailType("not all arguments converted during string formatting");
    }
    return std::move(out_);
  }

 private:
  struct Flags {
    bool left = false, plus = false, blank = false, alternate = false, zero = false;
    int64_t width = 0;
    int64_t precision = -1;
  };

  char Peek() const {
    if (at_ >= text_.size()) rt_.FailValue("incomplete format");
    return text_[at_];
  }
  void Append(std::string_view text) {
    rt_.StepBytes(text.size());
    rt_.Reserve(out_.size() + text.size());
    out_.append(text);
  }
  const Value& NextArgument() {
    if (next_ >= positional_.size()) rt_.FailType("not enough arguments for format string");
    return positional_[next_++];
  }
  Value Keyed() {
    int depth = 1;
    const size_t begin = ++at_;
    for (; depth > 0; ++at_) depth += Peek() == '(' ? 1 : Peek() == ')' ? -1 : 0;
    const std::string_view key = text_.substr(begin, at_ - 1 - begin);
    if (!mapping_) rt_.FailType("format requires a mapping");
    if (arguments_.type() != Type::kDict)
      rt_.FailType("list indices must be integers or slices, not str");
    const Value* found = As<Dict>(arguments_).Find(key);
    if (found == nullptr) rt_.Fail("KeyError: " + QuoteText(key));
    return *found;
  }
  int64_t Number(bool* star_left) {
    if (Peek() == '*') {
      ++at_;
      const Value& value = NextArgument();
      if (!value.is_integral()) rt_.FailType("* wants int");
      const Int n = value.int_value();
      if (n > INT32_MAX || n < -INT32_MAX) rt_.FailValue("width too big");
      if (n < 0 && star_left != nullptr) *star_left = true;
      return static_cast<int64_t>(n < 0 ? (star_left != nullptr ? -n : 0) : n);
    }
    int64_t n = 0;
    for (; Peek() >= '0' && Peek() <= '9'; ++at_) {
      n = n * 10 + (Peek() - '0');
      if (n > INT32_MAX) rt_.FailValue("width too big");
    }
    return n;
  }
  void Conversion();
  void Put(char type, const Value& value, const Flags& flags);
  std::string IntDigits(char type, const Value& value, const Flags& flags, std::string* sign);
  std::string FloatDigits(char type, const Value& value, const Flags& flags, std::string* sign);
  void PutNumber(const std::string& sign, std::string digits, const Flags& flags);
  void PutText(std::string text, const Flags& flags);

  Runtime& rt_;
  std::string_view text_;
  bool markup_;
  const Value& arguments_;
  Values positional_;
  bool mapping_ = false;
  size_t next_ = 0;
  size_t at_ = 0;
  std::string out_;
};

void PercentFormatter::Conversion() {
  Flags flags;
  Value value;
  bool keyed = false;
  if (Peek() == '%') {  // only so: with a width or a key it is a conversion that does not exist
    ++at_;
    Append("%");
    return;
  }
  if (Peek() == '(') {
    value = Keyed();
    keyed = true;
    next_ = positional_.size();
  }
  for (;; ++at_) {
    const char c = Peek();
    if (c == '-')
      flags.left = true;
    else if (c == '+')
      flags.plus = true;
    else if (c == ' ')
      flags.blank = true;
    else if (c == '#')
      flags.alternate = true;
    else if (c == '0')
      flags.zero = true;
    else
      break;
  }
  flags.width = Number(&flags.left);
  if (Peek() == '.') {
    ++at_;
    flags.precision = Number(nullptr);
  }
  while (Peek() == 'h' || Peek() == 'l' || Peek() == 'L') ++at_;
  const char type = Peek();
  ++at_;
  if (!keyed) value = NextArgument();
  Put(type, value, flags);
}

void PercentFormatter::Put(char type, const Value& value, const Flags& flags) {
  std::string sign;
  switch (type) {
    case 's':
    case 'r':
    case 'a': {
      std::string text = type == 's'   ? ToStr(rt_, value)
                         : type == 'r' ? Repr(rt_, value)
                                       : Ascii(rt_, value);
      if (markup_ && !(type == 's' && value.is_str() && As<Str>(value).markup))
        text = EscapeHtml(text);
      PutText(std::move(text), flags);
      return;
    }
    case 'c': {
      std::string text;
      if (value.is_str() && As<Str>(value).length == 1) {
        text = Text(value);
      } else if (value.is_integral() && value.int_value() >= 0 && value.int_value() <= 0x10FFFF) {
        AppendUtf8(&text, static_cast<char32_t>(value.int_value()));
      } else {
        rt_.FailType("%c requires int or char");
      }
      PutText(std::move(text), flags);
      return;
    }
    case 'd':
    case 'i':
    case 'u':
    case 'o':
    case 'x':
    case 'X': {
      const std::string digits = IntDigits(type, value, flags, &sign);
      PutNumber(sign, digits, flags);
      return;
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': {
      const std::string digits = FloatDigits(type, value, flags, &sign);
      PutNumber(sign, digits, flags);
      return;
    }
    default:
      rt_.FailValue(fmt::format("unsupported format character {}", QuoteText({&type, 1})));
  }
}

std::string PercentFormatter::IntDigits(char type, const Value& value, const Flags& flags,
                                        std::string* sign) {
  Int number = 0;
  const bool decimal = type == 'd' || type == 'i' || type == 'u';
  if (value.is_undefined()) rt_.FailUndefined(value);
  if (value.is_integral()) {
    number = value.int_value();
  } else if (value.is_float() && decimal) {
    if (!std::isfinite(value.float_value())) rt_.FailValue("cannot convert float to integer");
    if (std::abs(value.float_value()) > 0x1p126) rt_.FailOverflow();
    number = static_cast<Int>(value.float_value());
  } else {
    rt_.FailType(fmt::format("%{} format: {} is required, not {}", type,
                             decimal ? "a real number" : "an integer", TypeName(value)));
  }
  const std::string spec(1, decimal ? 'd' : type);
  if (number == static_cast<Int>(1) << 127) rt_.FailOverflow();
  std::string digits = FormatWithSpec(rt_, rt_.MakeInt(number < 0 ? -number : number), spec);
  if (flags.precision > static_cast<int64_t>(digits.size())) {
    rt_.Reserve(static_cast<uint64_t>(flags.precision));
    digits.insert(0, static_cast<size_t>(flags.precision) - digits.size(), '0');
  }
  *sign = number < 0 ? "-" : flags.plus ? "+" : flags.blank ? " " : "";
  if (flags.alternate && !decimal) *sign += std::string("0") + type;
  return digits;
}

std::string PercentFormatter::FloatDigits(char type, const Value& value, const Flags& flags,
                                          std::string* sign) {
  if (value.is_undefined()) rt_.FailUndefined(value);
  if (!value.is_number()) rt_.FailType(fmt::format("must be real number, not {}", TypeName(value)));
  if (flags.alternate) rt_.FailValue("alternate form is not supported for floats");
  const double number = value.number();
  const bool negative = std::signbit(number) && !std::isnan(number);
  *sign = negative ? "-" : flags.plus ? "+" : flags.blank ? " " : "";
  return FormatFloat(rt_, std::abs(number), type, flags.precision < 0 ? 6 : flags.precision);
}

void PercentFormatter::PutNumber(const std::string& sign, std::string digits, const Flags& flags) {
  const auto length = static_cast<int64_t>(sign.size() + digits.size());
  if (flags.zero && !flags.left && flags.width > length) {
    rt_.Reserve(static_cast<uint64_t>(flags.width));
    digits.insert(0, static_cast<size_t>(flags.width - length), '0');
  }
  Flags rest = flags;
  rest.precision = -1;
  PutText(sign + digits, rest);
}

void PercentFormatter::PutText(std::string text, const Flags& flags) {
  size_t length = CountCodePoints(text);
  if (flags.precision >= 0) {
    text.resize(ByteOffset(text, length, static_cast<size_t>(flags.precision)));
    length = CountCodePoints(text);
  }
  const int64_t padding = flags.width - static_cast<int64_t>(length);
  if (padding > 0) rt_.Reserve(static_cast<uint64_t>(padding));
  const std::string blanks(static_cast<size_t>(std::max<int64_t>(0, padding)), ' ');
  Append(flags.left ? text + blanks : blanks + text);
}

// One run of str.format, as string.Formatter does it.
class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, const CallArgs& arguments, bool markup)
      : rt_(rt), arguments_(arguments), markup_(markup) {}

  std::string Run(std::string_view text, int depth) {
    if (depth < 0) rt_.FailValue("Max string recursion exceeded");
    std::string out;
    for (size_t i = 0; i < text.size();) {
      const char c = text[i];
      if (c != '{' && c != '}') {
        const size_t next = std::min(text.find_first_of("{}", i), text.size());
        out.append(text.substr(i, next - i));
        i = next;
      } else if (i + 1 < text.size() && text[i + 1] == c) {
        out += c;
        i += 2;
      } else if (c == '}' || i + 1 >= text.size()) {
        rt_.FailValue(fmt::format("Single '{}' encountered in format string", c));
      } else {
        ++i;
        out += Field(text, &i, depth);
      }
      rt_.StepBytes(out.size() / 16);
      rt_.Reserve(out.size());
    }
    return out;
  }

 private:
  std::string Field(std::string_view text, size_t* i, int depth) {
    const size_t begin = *i;
    bool bracket = false;
    const auto at = [&](size_t k) {
      if (k >= text.size()) rt_.FailValue("expected '}' before end of string");
      return text[k];
    };
    for (;; ++*i) {
      const char c = at(*i);
      if (c == '{') rt_.FailValue("unexpected '{' in field name");
      if (c == '[') bracket = true;
      if (c == ']') bracket = false;
      if (!bracket && (c == '}' || c == '!' || c == ':')) break;
    }
    const std::string_view name = text.substr(begin, *i - begin);
    char conversion = '\0';
    if (at(*i) == '!') {
      conversion = at(++*i);
      if (at(++*i) != ':' && at(*i) != '}')
        rt_.FailValue("expected ':' after conversion specifier");
    }
    std::string_view spec;
    if (at(*i) == ':') {
      const size_t spec_begin = ++*i;
      for (int open = 1;; ++*i) {
        const char c = at(*i);
        open += c == '{' ? 1 : c == '}' ? -1 : 0;
        if (open == 0) break;
      }
      spec = text.substr(spec_begin, *i - spec_begin);
    }
    ++*i;
    const Value value = Convert(Lookup(name), conversion);
    const std::string expanded = Run(spec, depth - 1);
    return Finish(value, expanded);
  }

  std::string Finish(const Value& value, const std::string& spec) {
    if (!markup_) return FormatWithSpec(rt_, value, spec);
    if (value.is_str() && As<Str>(value).markup) {
      if (!spec.empty()) rt_.FailValue("Unsupported format specification for Markup.");
      return Text(value);
    }
    return EscapeHtml(FormatWithSpec(rt_, value, spec));
  }

  Value Convert(Value value, char conversion) {
    switch (conversion) {
      case '\0':
        return value;
      case 's':
        return rt_.MakeStr(ToStr(rt_, value));
      case 'r':
        return rt_.MakeStr(Repr(rt_, value));
      case 'a':
        return rt_.MakeStr(Ascii(rt_, value));
      default:
        rt_.FailValue(fmt::format("Unknown conversion specifier '{}'", conversion));
    }
  }

  static bool AllDigits(std::string_view text) {
    return !text.empty() && text.size() < 18 &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  }
  Value KeyOf(std::string_view text) {
    if (AllDigits(text)) return Value::Int64(std::stoll(std::string(text)));
    return rt_.MakeStr(std::string(text));
  }

  // The numbering looks at whole field names, so "{0.a}{}" counts from 0 (string.Formatter).
  void CheckNumbering(std::string_view name) {
    if (name.empty()) {
      if (next_ < 0) {
        rt_.FailValue("cannot switch from manual field specification to automatic field numbering");
      }
    } else if (AllDigits(name)) {
      if (next_ > 0) {
        rt_.FailValue("cannot switch from automatic field numbering to manual field specification");
      }
      next_ = -1;
    }
  }

  Value First(std::string_view name) {
    if (AllDigits(name)) return Positional(std::stoll(std::string(name)));
    for (const auto& [key, value] : arguments_.named) {
      if (Text(key) == name) return value;
    }
    rt_.Fail("KeyError: " + QuoteText(name));
  }
  Value Positional(int64_t index) {
    if (index >= static_cast<int64_t>(arguments_.positional.size())) {
      rt_.Fail(fmt::format(
          "IndexError: Replacement index {} out of range for positional args tuple", index));
    }
    return arguments_.positional[static_cast<size_t>(index)];
  }

  Value Lookup(std::string_view name) {
    CheckNumbering(name);
    if (name.empty()) return Positional(next_++);
    size_t end = std::min(name.find_first_of(".["), name.size());
    Value value = First(name.substr(0, end));
    while (end < name.size()) {
      rt_.Step();
      if (name[end] == '.') {
        const size_t begin = end + 1;
        end = std::min(name.find_first_of(".[", begin), name.size());
        const std::string_view attribute = name.substr(begin, end - begin);
        if (attribute.empty()) rt_.FailValue("Empty attribute in format string");
        const Value key = rt_.MakeStr(std::string(attribute));
        value = GetAttribute(rt_, value, key, FindMethods(attribute));
      } else if (name[end] == '[') {
        const size_t close = name.find(']', end);
        if (close == name.npos) rt_.FailValue("Missing ']' in format string");
        if (close == end + 1) rt_.FailValue("Empty attribute in format string");
        value = GetItem(rt_, value, KeyOf(name.substr(end + 1, close - end - 1)));
        end = close + 1;
      } else {
        rt_.FailValue("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  Runtime& rt_;
  const CallArgs& arguments_;
  bool markup_;
  int64_t next_ = 0;  // of automatic numbering; -1 once numbers were given
};

}  // namespace

Value FormatPercent(Runtime& rt, const Value& format, const Value& arguments) {
  std::string text = PercentFormatter(rt, format, arguments).Run();
  return rt.MakeStr(std::move(text), As<Str>(format).markup);
}

Value FormatBraces(Runtime& rt, const Value& format, const CallArgs& arguments) {
  const bool markup = As<Str>(format).markup;
  return rt.MakeStr(BraceFormatter(rt, arguments, markup).Run(Text(format), 2), markup);
}

}  // namespace apr::jinja
