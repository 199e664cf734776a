// Text forms of values as Python's str() and repr() give them. See jinja_value.h.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_loop.h"
#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {
namespace {

void Put(Runtime& rt, std::string* out, std::string_view text) {
  rt.StepBytes(text.size());
  rt.Reserve(out->size() + text.size());
  out->append(text);
}

void AppendRepr(Runtime& rt, const Value& value, std::string* out);

void AppendItems(Runtime& rt, const Values& items, std::string* out) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) *out += ", ";
    AppendRepr(rt, items[i], out);
  }
}

void AppendDict(Runtime& rt, const Dict& dict, std::string* out) {
  *out += '{';
  bool first = true;
  for (const auto& [key, value] : dict.entries) {
    if (!first) *out += ", ";
    first = false;
    AppendRepr(rt, key, out);
    *out += ": ";
    AppendRepr(rt, value, out);
  }
  *out += '}';
}

void AppendView(Runtime& rt, const View& view, std::string* out) {
  *out += view.kind == ViewKind::kKeys     ? "dict_keys(["
          : view.kind == ViewKind::kValues ? "dict_values(["
                                           : "dict_items([";
  bool first = true;
  for (const auto& [key, value] : view.dict().entries) {
    if (!first) *out += ", ";
    first = false;
    if (view.kind == ViewKind::kItems) *out += '(';
    if (view.kind != ViewKind::kValues) AppendRepr(rt, key, out);
    if (view.kind == ViewKind::kItems) *out += ", ";
    if (view.kind != ViewKind::kKeys) AppendRepr(rt, value, out);
    if (view.kind == ViewKind::kItems) *out += ')';
  }
  *out += "])";
}

void AppendRange(const Range& range, std::string* out) {
  *out += range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                          : fmt::format("range({}, {}, {})", range.start, range.stop, range.step);
}

std::string MacroText(const Macro& macro) {
  return macro.name().empty() ? "<Macro anonymous>" : "<Macro " + QuoteText(macro.name()) + ">";
}

void AppendObject(Runtime& rt, const Value& value, std::string* out) {
  switch (value.type()) {
    case Type::kStr:
      Put(rt, out,
          As<Str>(value).markup ? "Markup(" + QuoteText(Text(value)) + ")"
                                : QuoteText(Text(value)));
      break;
    case Type::kList:
      *out += '[';
      AppendItems(rt, Items(value), out);
      *out += ']';
      break;
    case Type::kTuple:
      *out += '(';
      AppendItems(rt, Items(value), out);
      *out += Items(value).size() == 1 ? ",)" : ")";
      break;
    case Type::kDict:
      AppendDict(rt, As<Dict>(value), out);
      break;
    case Type::kView:
      AppendView(rt, As<View>(value), out);
      break;
    case Type::kRange:
      AppendRange(As<Range>(value), out);
      break;
    case Type::kUndefined:
      *out += "Undefined";
      break;
    case Type::kNamespace:
      *out += "<Namespace ";
      AppendDict(rt, As<Namespace>(value).dict(), out);
      *out += '>';
      break;
    case Type::kMacro:
      *out += MacroText(As<Macro>(value));
      break;
    case Type::kLoop:
      *out += fmt::format("<LoopContext {}/{}>", As<Loop>(value).index0 + 1,
                          As<Loop>(value).CountAll(rt));
      break;
    case Type::kFunction:
      *out += fmt::format("<function {}>", As<Function>(value).name);
      break;
    case Type::kMethod:
      *out += fmt::format("<built-in method {} of {} object>", As<Method>(value).name,
                          TypeName(As<Method>(value).self));
      break;
    default:
      *out += fmt::format("<{} object>", TypeName(value));
      break;
  }
}

void AppendRepr(Runtime& rt, const Value& value, std::string* out) {
  const Runtime::Deeper deeper(rt);
  rt.Step();
  rt.Reserve(out->size());
  switch (value.type()) {
    case Type::kMissing:
    case Type::kNone:
      *out += "None";
      break;
    case Type::kBool:
      *out += value.bool_value() ? "True" : "False";
      break;
    case Type::kInt:
      *out += IntText(value.int_value());
      break;
    case Type::kFloat:
      *out += FloatText(value.float_value());
      break;
    default:
      AppendObject(rt, value, out);
      break;
  }
}

}  // namespace

std::string IntText(Int value) {
  if (value == static_cast<int64_t>(value)) return fmt::format("{}", static_cast<int64_t>(value));
  UnsignedInt rest = value < 0 ? UnsignedInt{0} - static_cast<UnsignedInt>(value)
                               : static_cast<UnsignedInt>(value);
  std::string digits;
  for (; rest != 0; rest /= 10) digits += static_cast<char>('0' + static_cast<int>(rest % 10));
  if (value < 0) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

// Shortest digits that read back as the same double; an exponent where Python uses one.
std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  int exponent = 0;
  const size_t sign_or_digit = text[e + 1] == '+' ? e + 2 : e + 1;
  std::from_chars(text.data() + sign_or_digit, text.data() + text.size(), exponent);
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  std::string out = text[0] == '-' ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (digits.size() > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string QuoteText(std::string_view s) {
  const char quote = s.find('\'') != s.npos && s.find('"') == s.npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t i = 0; i < s.size();) {
    const size_t begin = i;
    const char32_t c = DecodeAt(s, &i);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (IsPrintable(c)) {
      out.append(s.substr(begin, i - begin));
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  }
  out += quote;
  return out;
}

void AppendStr(Runtime& rt, const Value& value, std::string* out) {
  if (value.is_str()) {
    Put(rt, out, Text(value));
  } else if (!value.is_undefined()) {
    AppendRepr(rt, value, out);
  }
}

std::string ToStr(Runtime& rt, const Value& value) {
  if (value.is_str()) {
    rt.StepBytes(Text(value).size());
    return Text(value);
  }
  std::string out;
  AppendStr(rt, value, &out);
  return out;
}

std::string Repr(Runtime& rt, const Value& value) {
  std::string out;
  AppendRepr(rt, value, &out);
  return out;
}

}  // namespace apr::jinja
