// Filters on text. See jinja_builtin.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_arguments.h"
#include "tokenizer/jinja_builtin.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_method.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_string_method.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

// A str as it is, anything else by str().
Value SoftStr(Runtime& rt, const Value& value) {
  return value.is_str() ? value : rt.MakeStr(ToStr(rt, value));
}
bool IsMarkup(const Value& str) { return As<Str>(str).markup; }

template <std::string (*Map)(std::string_view)>
Value FilterCase(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"filter", {}, 0}, args);
  const Value text = SoftStr(rt, self);
  rt.StepBytes(Text(text).size() * 8);
  return rt.MakeStr(Map(Text(text)), IsMarkup(text));
}

// Words begin behind white space, a hyphen or an opening bracket; the rest of each is lower case.
std::string TitleWords(std::string_view text) {
  std::string out;
  const auto is_break = [](char32_t c) {
    return IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const bool separator = is_break(DecodeAt(text, &i));
    const size_t second = i;
    while (i < text.size()) {
      size_t next = i;
      if (is_break(DecodeAt(text, &next)) != separator) break;
      i = next;
    }
    out += ToUpper(text.substr(begin, second - begin));
    out += ToLower(text.substr(second, i - second));
  }
  return out;
}

// The words are joined anew, so a mark as safe is lost.
Value TitleFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"title", {}, 0}, args);
  const std::string text = ToStr(rt, self);
  rt.StepBytes(text.size() * 8);
  return rt.MakeStr(TitleWords(text));
}

Value StringFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"string", {}, 0}, args);
  return SoftStr(rt, self);
}

Value TrimFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"trim", {"chars"}, 0}, args);
  const Value text = SoftStr(rt, self);
  CallArgs strip;
  if (!a[0].is_missing()) strip.positional.push_back(a[0]);
  return FindMethods("strip")->by_type[static_cast<size_t>(Type::kStr)](rt, text, strip);
}

Value CenterFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"center", {"width"}, 0}, args);
  CallArgs center;
  center.positional.push_back(a[0].is_missing() ? Value::Int64(80) : a[0]);
  return FindMethods("center")->by_type[static_cast<size_t>(Type::kStr)](rt, SoftStr(rt, self),
                                                                         center);
}

Value ReplaceFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"replace", {"old", "new", "count"}, 2}, args);
  const int64_t count = a[2].is_none() ? -1 : IntOr(rt, a[2], -1);
  return rt.MakeStr(ReplaceText(rt, ToStr(rt, self), ToStr(rt, a[0]), ToStr(rt, a[1]), count));
}

Value FormatFilter(Runtime& rt, const Value& self, CallArgs& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    rt.Fail("can't handle positional and keyword arguments at the same time");
  }
  const Value text = SoftStr(rt, self);
  if (args.named.empty()) return FormatPercent(rt, text, rt.MakeTuple(args.positional));
  Value dict(new Dict(&rt));
  for (const auto& [name, value] : args.named) As<Dict>(dict).Set(name, value);
  return FormatPercent(rt, text, dict);
}

Value IndentFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"indent", {"width", "first", "blank"}, 0}, args);
  const std::string& text = TextArgument(rt, "indent", self);
  std::string indent(4, ' ');
  if (a[0].is_str()) {
    indent = Text(a[0]);
  } else if (!a[0].is_missing()) {
    const int64_t width = std::max<int64_t>(0, IndexValue(rt, a[0]));
    rt.Reserve(static_cast<uint64_t>(width));
    indent.assign(static_cast<size_t>(width), ' ');
  }
  if (IsMarkup(self) && a[0].is_str() && !IsMarkup(a[0])) indent = EscapeHtml(indent);
  const bool blank = FlagOr(a[2], false);
  const std::string with_end = text + "\n";
  std::string out = FlagOr(a[1], false) ? indent : "";
  bool first = true;
  for (const std::string_view line : SplitLines(with_end, false)) {
    rt.StepBytes(line.size() + indent.size());
    rt.Reserve(out.size() + line.size() + indent.size() + 1);
    if (!first) out += '\n';
    if (!first && (blank || !line.empty())) out += indent;
    first = false;
    out += line;
  }
  return rt.MakeStr(std::move(out), IsMarkup(self));
}

Value TruncateFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a =
      BindArguments(rt, {"truncate", {"length", "killwords", "end", "leeway"}, 0}, args);
  const int64_t length = IntOr(rt, a[0], 255);
  const std::string end = a[2].is_missing() ? "..." : TextArgument(rt, "truncate", a[2]);
  const int64_t leeway = a[3].is_none() ? 5 : IntOr(rt, a[3], 5);
  const auto end_length = static_cast<int64_t>(CountCodePoints(end));
  if (length < end_length) {
    rt.Fail(fmt::format("AssertionError: expected length >= {}, got {}", end_length, length));
  }
  if (leeway < 0) rt.Fail(fmt::format("AssertionError: expected leeway >= 0, got {}", leeway));
  CallArgs none;
  const Int total = FindFilter("length")(rt, self, none).int_value();
  if (total <= length || total - length <= leeway) return self;
  TextArgument(rt, "truncate", self);
  const Str& str = As<Str>(self);
  const size_t kept_bytes =
      ByteOffset(str.text, str.length, static_cast<size_t>(length - end_length));
  std::string_view kept = std::string_view(str.text).substr(0, kept_bytes);
  if (!FlagOr(a[1], false)) {
    const size_t blank = kept.rfind(' ');
    if (blank != kept.npos) kept = kept.substr(0, blank);
  }
  const std::string tail = str.markup && !(a[2].is_str() && IsMarkup(a[2])) ? EscapeHtml(end) : end;
  return rt.MakeStr(std::string(kept) + tail, str.markup);
}

Value WordCountFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"wordcount", {}, 0}, args);
  const Value text = SoftStr(rt, self);
  rt.StepBytes(Text(text).size() * 4);
  int64_t words = 0;
  bool inside = false;
  for (size_t i = 0; i < Text(text).size();) {
    const bool word = IsWord(DecodeAt(Text(text), &i));
    words += word && !inside;
    inside = word;
  }
  return Value::Int64(words);
}

Value EscapeFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"escape", {}, 0}, args);
  return EscapeValue(rt, self);
}

Value ForceEscapeFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"forceescape", {}, 0}, args);
  const std::string text = ToStr(rt, self);
  rt.Reserve(text.size() * 5);
  return rt.MakeStr(EscapeHtml(text), true);
}

Value SafeFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"safe", {}, 0}, args);
  return rt.MakeStr(ToStr(rt, self), true);
}

std::string UrlQuote(Runtime& rt, const Value& value, bool query) {
  const std::string text = ToStr(rt, value);
  rt.Reserve(text.size() * 3);
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x80 && std::isalnum(byte)) || c == '_' || c == '.' || c == '-' || c == '~' ||
        (c == '/' && !query)) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

Value UrlEncodeFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"urlencode", {}, 0}, args);
  if (self.is_str() || !IsIterable(self)) return rt.MakeStr(UrlQuote(rt, self, false));
  const Value pairs =
      self.type() == Type::kDict ? Value(new View(&rt, self, ViewKind::kItems)) : self;
  std::string out;
  for (const Value& pair : Collect(rt, pairs)) {
    const Values parts = Collect(rt, pair);
    if (parts.size() != 2) rt.FailValue("urlencode wants pairs");
    if (!out.empty()) out += '&';
    out += UrlQuote(rt, parts[0], true) + "=" + UrlQuote(rt, parts[1], true);
    rt.Reserve(out.size());
  }
  return rt.MakeStr(std::move(out));
}

Value XmlAttrFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"xmlattr", {"autospace"}, 0}, args);
  if (self.type() != Type::kDict) rt.FailType("xmlattr wants a mapping");
  std::string out;
  for (const auto& [key, value] : As<Dict>(self).entries) {
    if (value.is_none() || value.is_undefined()) continue;
    if (TextArgument(rt, "xmlattr", key).find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      rt.FailValue("Invalid character in attribute name: " + QuoteText(Text(key)));
    }
    if (!out.empty()) out += ' ';
    out += Text(EscapeValue(rt, key)) + "=\"" + Text(EscapeValue(rt, value)) + "\"";
    rt.Reserve(out.size());
  }
  if (!out.empty() && FlagOr(a[0], true)) out.insert(0, 1, ' ');
  return rt.MakeStr(std::move(out));
}

Value FileSizeFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"filesizeformat", {"binary"}, 0}, args);
  CallArgs fallback;  // None where the text is no number
  fallback.positional.push_back(Value::None());
  const Value number = FindFilter("float")(rt, self, fallback);
  if (number.is_none()) rt.FailValue("could not convert to float: " + Repr(rt, self));
  const double bytes = number.float_value();
  const bool binary = FlagOr(a[0], false);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return rt.MakeStr("1 Byte");
  if (bytes < base && !std::isfinite(bytes))
    rt.Fail("OverflowError: cannot convert float infinity to integer");
  if (bytes < base)
    return rt.MakeStr(
        fmt::format("{} Bytes", IntText(static_cast<Int>(std::max(bytes, -0x1p100)))));
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  size_t k = 0;
  for (; k < kPrefixes.size(); ++k) {
    unit *= base;
    if (bytes < unit) break;
  }
  k = std::min(k, kPrefixes.size() - 1);
  const std::string prefix =
      binary ? fmt::format("{}iB", static_cast<char>(std::toupper(kPrefixes[k])))
             : fmt::format("{}B", kPrefixes[k]);
  return rt.MakeStr(FormatFloat(rt, base * bytes / unit, 'f', 1) + " " + prefix);
}

}  // namespace

Builtin FindTextFilter(std::string_view name) {
  static constexpr std::pair<std::string_view, Builtin> kFilters[] = {
      {"capitalize", FilterCase<ToCapitalized>},
      {"center", CenterFilter},
      {"e", EscapeFilter},
      {"escape", EscapeFilter},
      {"filesizeformat", FileSizeFilter},
      {"forceescape", ForceEscapeFilter},
      {"format", FormatFilter},
      {"indent", IndentFilter},
      {"lower", FilterCase<ToLower>},
      {"replace", ReplaceFilter},
      {"safe", SafeFilter},
      {"string", StringFilter},
      {"title", TitleFilter},
      {"trim", TrimFilter},
      {"truncate", TruncateFilter},
      {"upper", FilterCase<ToUpper>},
      {"urlencode", UrlEncodeFilter},
      {"wordcount", WordCountFilter},
      {"xmlattr", XmlAttrFilter},
  };
  for (const auto& [filter, function] : kFilters) {
    if (filter == name) return function;
  }
  return nullptr;
}

}  // namespace apr::jinja
