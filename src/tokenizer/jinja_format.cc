// See jinja_format.h: numbers and format specifications. Templates of formatting ("%", "{}") are in
// jinja_format_text.cc.
#include "tokenizer/jinja_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

struct Spec {
  std::string fill = " ";
  char align = '\0';
  char sign = '-';
  bool alternate = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

bool IsAlign(char c) { return c == '<' || c == '>' || c == '=' || c == '^'; }

int64_t ReadNumber(Runtime& rt, std::string_view s, size_t* i) {
  int64_t value = 0;
  while (*i < s.size() && s[*i] >= '0' && s[*i] <= '9') {
    value = value * 10 + (s[(*i)++] - '0');
    if (value > INT32_MAX) rt.FailValue("Too many decimal digits in format string");
  }
  return value;
}

Spec ParseSpec(Runtime& rt, std::string_view s) {
  Spec spec;
  size_t i = 0;
  size_t second = 0;
  if (!s.empty()) DecodeAt(s, &second);
  if (second > 0 && second < s.size() && IsAlign(s[second])) {
    spec.fill = s.substr(0, second);
    spec.align = s[second];
    i = second + 1;
  } else if (!s.empty() && IsAlign(s[0])) {
    spec.align = s[i++];
  }
  const auto take = [&](char c) { return i < s.size() && s[i] == c ? (++i, true) : false; };
  if (i < s.size() && (s[i] == '+' || s[i] == '-' || s[i] == ' ')) spec.sign = s[i++];
  spec.alternate = take('#');
  if (take('0') && spec.align == '\0') {
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = ReadNumber(rt, s, &i);
  if (i < s.size() && (s[i] == ',' || s[i] == '_')) spec.grouping = s[i++];
  if (take('.')) {
    const size_t before = i;
    spec.precision = ReadNumber(rt, s, &i);
    if (i == before) rt.FailValue("Format specifier missing precision");
  }
  if (i < s.size()) spec.type = s[i++];
  if (i != s.size()) rt.FailValue("Invalid format specifier");
  return spec;
}

std::string Pad(Runtime& rt, const Spec& spec, const std::string& sign, const std::string& body,
                char default_align) {
  const auto length = static_cast<int64_t>(sign.size() + CountCodePoints(body));
  const int64_t missing = std::max<int64_t>(0, spec.width - length);
  rt.Reserve(static_cast<uint64_t>(missing) * spec.fill.size() + body.size());
  rt.StepBytes(static_cast<size_t>(missing));
  const auto fill = [&](int64_t count) {
    std::string out;
    for (int64_t k = 0; k < count; ++k) out += spec.fill;
    return out;
  };
  const char align = spec.align == '\0' ? default_align : spec.align;
  if (align == '<') return sign + body + fill(missing);
  if (align == '=') return sign + fill(missing) + body;
  if (align == '>') return fill(missing) + sign + body;
  return fill(missing / 2) + sign + body + fill(missing - missing / 2);
}

// Puts `separator` between groups of `size` digits of the whole part that starts `text`, which is
// filled up with zeros to `width` characters where the fill is zero.
std::string Group(std::string text, char separator, size_t size, int64_t width) {
  size_t digits = 0;
  while (digits < text.size() && std::isalnum(static_cast<unsigned char>(text[digits]))) ++digits;
  const std::string rest = text.substr(digits);
  std::string whole = text.substr(0, digits);
  std::string out;
  for (size_t i = 0; i < whole.size(); ++i) {
    if (i > 0 && (whole.size() - i) % size == 0) out += separator;
    out += whole[i];
  }
  size_t count = whole.size();
  while (static_cast<int64_t>(out.size() + rest.size()) < width) {
    if (count % size == 0) out.insert(out.begin(), separator);
    out.insert(out.begin(), '0');
    ++count;
  }
  return out + rest;
}

std::string Digits(UnsignedInt value, unsigned base, bool upper) {
  const char* digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out += digits[static_cast<unsigned>(value % base)];
    value /= base;
  } while (value != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string SignOf(bool negative, char sign) {
  return negative ? "-" : sign == '-' ? "" : std::string(1, sign);
}

std::string FinishNumber(Runtime& rt, const Spec& spec, std::string sign, std::string body,
                         size_t group) {
  if (spec.grouping != '\0') {
    rt.Reserve(static_cast<uint64_t>(spec.width));
    if (spec.width > 4096) rt.FailValue("width of a grouped number too large");
    const bool zeros = spec.fill == "0" && spec.align == '=';
    body = Group(std::move(body), spec.grouping, group,
                 zeros ? spec.width - static_cast<int64_t>(sign.size()) : 0);
  }
  return Pad(rt, spec, sign, body, '>');
}

std::string FormatInt(Runtime& rt, Int value, const Spec& spec) {
  if (spec.precision >= 0) rt.FailValue("Precision not allowed in integer format specifier");
  const bool negative = value < 0;
  const UnsignedInt magnitude =
      negative ? UnsignedInt{0} - static_cast<UnsignedInt>(value) : static_cast<UnsignedInt>(value);
  if (spec.type == 'c') {
    if (value < 0 || value > 0x10FFFF) rt.Fail("OverflowError: %c arg not in range(0x110000)");
    std::string text;
    AppendUtf8(&text, static_cast<char32_t>(value));
    return Pad(rt, spec, "", text, '<');
  }
  const unsigned base = spec.type == 'b'          ? 2
                        : spec.type == 'o'        ? 8
                        : (spec.type | 32) == 'x' ? 16
                                                  : 10;
  if (base != 10 && spec.grouping == ',') rt.FailValue("Cannot specify ',' with this format");
  std::string sign = SignOf(negative, spec.sign);
  if (spec.alternate && base != 10) sign += std::string("0") + spec.type;
  return FinishNumber(rt, spec, sign, Digits(magnitude, base, spec.type == 'X'),
                      base == 10 ? 3 : 4);
}

std::string FormatDouble(Runtime& rt, double value, const Spec& spec) {
  if (spec.alternate) rt.FailValue("alternate form is not supported for floats");
  const bool negative = std::signbit(value) && !std::isnan(value);
  const double magnitude = std::abs(value);
  std::string body;
  if (spec.type == '%') {
    body = FormatFloat(rt, magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision) + "%";
  } else if (spec.type == '\0' && spec.precision < 0) {
    body = FloatText(magnitude);
  } else if (spec.type == '\0') {
    body = FormatFloat(rt, magnitude, 'g', std::max<int64_t>(1, spec.precision));
    // Without a type there is always a digit behind the point, and one more figure needs an
    // exponent.
    int exponent = 0;
    if (magnitude != 0 && std::isfinite(magnitude)) {
      const std::string e =
          FormatFloat(rt, magnitude, 'e', std::max<int64_t>(1, spec.precision) - 1);
      exponent = std::atoi(e.c_str() + e.find('e') + 1);
    }
    if (std::isfinite(magnitude) && body.find('e') == body.npos) {
      if (exponent >= std::max<int64_t>(1, spec.precision) - 1 && exponent > 0 &&
          spec.precision <= exponent + 1) {
        body = FormatFloat(rt, magnitude, 'e', std::max<int64_t>(1, spec.precision) - 1);
        const size_t e = body.find('e');
        std::string head = body.substr(0, e);
        if (head.find('.') != head.npos) {
          while (head.back() == '0') head.pop_back();
          if (head.back() == '.') head.pop_back();
        }
        body = head + body.substr(e);
      } else if (body.find('.') == body.npos) {
        body += ".0";
      }
    }
  } else {
    const char style = spec.type == 'n' ? 'g' : spec.type;
    body = FormatFloat(rt, magnitude, style, spec.precision < 0 ? 6 : spec.precision);
  }
  return FinishNumber(rt, spec, SignOf(negative, spec.sign), body, 3);
}

std::string FormatStr(Runtime& rt, const Str& str, const Spec& spec) {
  if (spec.type != '\0' && spec.type != 's') {
    rt.FailValue(fmt::format("Unknown format code '{}' for object of type 'str'", spec.type));
  }
  if (spec.align == '=' && spec.fill != "0") {
    rt.FailValue("'=' alignment not allowed in string format specifier");
  }
  if (spec.sign != '-') rt.FailValue("Sign not allowed in string format specifier");
  if (spec.alternate) rt.FailValue("Alternate form (#) not allowed in string format specifier");
  if (spec.grouping != '\0') rt.FailValue("Cannot specify grouping with 's'.");
  std::string text = str.text;
  if (spec.precision >= 0) {
    text.resize(ByteOffset(text, str.length, static_cast<size_t>(spec.precision)));
  }
  Spec padded = spec;
  if (padded.align == '=') padded.align = '<';
  return Pad(rt, padded, "", text, '<');
}

}  // namespace

std::string FormatFloat(Runtime& rt, double value, char style, int64_t precision) {
  const bool upper = style >= 'A' && style <= 'Z';
  const char kind = static_cast<char>(style | 32);
  std::string out;
  if (std::isfinite(value)) {
    rt.Reserve(static_cast<uint64_t>(precision) + 400);
    rt.StepBytes(static_cast<size_t>(precision));
    out.resize(static_cast<size_t>(precision) + 400);
    const auto format = kind == 'e'   ? std::chars_format::scientific
                        : kind == 'f' ? std::chars_format::fixed
                                      : std::chars_format::general;
    const int digits = static_cast<int>(kind == 'g' && precision == 0 ? 1 : precision);
    const auto result = std::to_chars(out.data(), out.data() + out.size(), value, format, digits);
    out.resize(static_cast<size_t>(result.ptr - out.data()));
  } else {
    out = std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
  }
  if (upper)
    std::transform(out.begin(), out.end(), out.begin(),
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return out;
}

double RoundFloat(double value, int digits) {
  if (!std::isfinite(value) || digits > 323) return value;
  char buffer[800];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, digits).ptr;
  double rounded = value;
  std::from_chars(buffer, end, rounded);
  return rounded;
}

std::string FormatWithSpec(Runtime& rt, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return ToStr(rt, value);
  if (!value.is_number() && !value.is_str()) {
    rt.FailType(fmt::format("unsupported format string passed to {}.__format__", TypeName(value)));
  }
  const Spec spec = ParseSpec(rt, spec_text);
  if (value.is_str()) return FormatStr(rt, As<Str>(value), spec);
  constexpr std::string_view kIntTypes = "bcdoxXn";
  constexpr std::string_view kFloatTypes = "eEfFgGn%";
  const bool plain = spec.type == '\0';
  if (value.is_integral() && (plain || kIntTypes.find(spec.type) != kIntTypes.npos)) {
    return FormatInt(rt, value.int_value(), spec);
  }
  if (kFloatTypes.find(spec.type) != kFloatTypes.npos || (plain && value.is_float())) {
    return FormatDouble(rt, value.number(), spec);
  }
  rt.FailValue(
      fmt::format("Unknown format code '{}' for object of type '{}'", spec.type, TypeName(value)));
}

}  // namespace apr::jinja
