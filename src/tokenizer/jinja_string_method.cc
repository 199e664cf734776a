// Methods of str. See jinja_method.h.
#include <fmt/format.h>

#include <algorithm>

#include "tokenizer/jinja_arguments.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_string_method.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

Value Same(Runtime& rt, const Value& self, std::string text) {
  return rt.MakeStr(std::move(text), As<Str>(self).markup);
}

void NoArguments(Runtime& rt, const char* name, CallArgs& args) {
  BindArguments(rt, {name, {}, 0, false}, args);
}

template <std::string (*Map)(std::string_view)>
Value MapCase(Runtime& rt, const Value& self, CallArgs& args) {
  NoArguments(rt, "str method", args);
  rt.StepBytes(Text(self).size() * 8);
  return Same(rt, self, Map(Text(self)));
}

// True for a text that is not empty and whose every character is in the class.
template <bool (*Is)(char32_t)>
Value AllAre(Runtime& rt, const Value& self, CallArgs& args) {
  NoArguments(rt, "str method", args);
  const std::string& text = Text(self);
  rt.StepBytes(text.size() * 4);
  for (size_t i = 0; i < text.size();) {
    if (!Is(DecodeAt(text, &i))) return Value::Bool(false);
  }
  return Value::Bool(!text.empty());
}

bool IsAsciiChar(char32_t c) { return c < 0x80; }

Value IsAscii(Runtime& rt, const Value& self, CallArgs& args) {
  if (Text(self).empty()) return Value::Bool(true);
  return AllAre<IsAsciiChar>(rt, self, args);
}
Value IsPrintableText(Runtime& rt, const Value& self, CallArgs& args) {
  if (Text(self).empty()) return Value::Bool(true);
  return AllAre<IsPrintable>(rt, self, args);
}
Value IsIdentifierText(Runtime& rt, const Value& self, CallArgs& args) {
  NoArguments(rt, "isidentifier", args);
  return Value::Bool(IsIdentifier(Text(self)));
}

Value IsLowerText(Runtime& rt, const Value& self, CallArgs& args) {
  NoArguments(rt, "islower", args);
  return Value::Bool(IsLowerCase(Text(self)));
}
Value IsUpperText(Runtime& rt, const Value& self, CallArgs& args) {
  NoArguments(rt, "isupper", args);
  return Value::Bool(IsUpperCase(Text(self)));
}
Value IsTitleText(Runtime& rt, const Value& self, CallArgs& args) {
  NoArguments(rt, "istitle", args);
  bool cased = false;
  bool inside = false;
  for (size_t i = 0; i < Text(self).size();) {
    const char32_t c = DecodeAt(Text(self), &i);
    const bool starts = IsUpper(c) || IsTitle(c);
    if (starts ? inside : IsLower(c) && !inside) return Value::Bool(false);
    inside = starts || IsLower(c);
    cased = cased || inside;
  }
  return Value::Bool(cased);
}

// strip, lstrip, rstrip: bit 0 of Sides is the left one, bit 1 the right one.
template <int Sides>
Value StripText(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"strip", {"chars"}, 0, false}, args);
  std::string_view text = Text(self);
  rt.StepBytes(text.size());
  if (a[0].is_missing() || a[0].is_none()) {
    if (Sides & 1) text = StripLeft(text);
    if (Sides & 2) text = StripRight(text);
    return Same(rt, self, std::string(text));
  }
  const std::string& chars = TextArgument(rt, "strip", a[0]);
  const auto listed = [&](std::string_view c) {
    rt.StepBytes(chars.size());
    return chars.find(c) != chars.npos;
  };
  while ((Sides & 1) && !text.empty()) {
    size_t next = 0;
    DecodeAt(text, &next);
    if (!listed(text.substr(0, next))) break;
    text.remove_prefix(next);
  }
  while ((Sides & 2) && !text.empty()) {
    size_t begin = text.size();
    DecodeBefore(text, &begin);
    if (!listed(text.substr(begin))) break;
    text = text.substr(0, begin);
  }
  return Same(rt, self, std::string(text));
}

Value PartsToList(Runtime& rt, const Value& self, const std::vector<std::string_view>& parts) {
  rt.ReserveValues(parts.size() * 8);
  Values out;
  out.reserve(parts.size());
  for (const std::string_view part : parts) out.push_back(Same(rt, self, std::string(part)));
  return rt.MakeList(std::move(out));
}

// Cuts at white space; at most `limit` cuts (negative: no bound), from the left or from the right.
std::vector<std::string_view> SplitSpace(std::string_view text, int64_t limit, bool from_right) {
  std::vector<std::string_view> parts;
  text = from_right ? StripRight(text) : StripLeft(text);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(text);  // what is left, with the white space at its outer end cut off
      break;
    }
    size_t at = from_right ? text.size() : 0;
    size_t word = at;
    while (from_right ? at > 0 : at < text.size()) {
      if (IsSpace(from_right ? DecodeBefore(text, &at) : DecodeAt(text, &at))) break;
      word = at;
    }
    parts.push_back(from_right ? text.substr(word) : text.substr(0, word));
    text = from_right ? StripRight(text.substr(0, word)) : StripLeft(text.substr(word));
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator,
                                      int64_t limit, bool from_right) {
  std::vector<std::string_view> parts;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == text.npos) break;
    parts.push_back(from_right ? text.substr(at + separator.size()) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(at + separator.size());
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

template <bool FromRight>
Value Split(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"split", {"sep", "maxsplit"}, 0}, args);
  const int64_t limit = IntOr(rt, a[1], -1);
  rt.StepBytes(Text(self).size() * 4);
  if (a[0].is_missing() || a[0].is_none())
    return PartsToList(rt, self, SplitSpace(Text(self), limit, FromRight));
  const std::string& separator = TextArgument(rt, "split", a[0]);
  if (separator.empty()) rt.FailValue("empty separator");
  return PartsToList(rt, self, SplitAt(Text(self), separator, limit, FromRight));
}

Value SplitLinesMethod(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"splitlines", {"keepends"}, 0}, args);
  rt.StepBytes(Text(self).size() * 4);
  return PartsToList(rt, self, SplitLines(Text(self), FlagOr(a[0], false)));
}

template <bool FromRight>
Value Partition(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"partition", {"sep"}, 1, false}, args);
  const std::string& text = Text(self);
  const std::string& separator = TextArgument(rt, "partition", a[0]);
  if (separator.empty()) rt.FailValue("empty separator");
  rt.StepBytes(text.size());
  const size_t at = FromRight ? text.rfind(separator) : text.find(separator);
  Values parts;
  if (at == text.npos) {
    parts = {Same(rt, self, FromRight ? "" : text), Same(rt, self, ""),
             Same(rt, self, FromRight ? text : "")};
  } else {
    parts = {Same(rt, self, text.substr(0, at)), Same(rt, self, separator),
             Same(rt, self, text.substr(at + separator.size()))};
  }
  return rt.MakeTuple(std::move(parts));
}

Value Replace(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"replace", {"old", "new", "count"}, 2, false}, args);
  const std::string& old_text = TextArgument(rt, "replace", a[0]);
  TextArgument(rt, "replace", a[1]);
  const Value new_text = As<Str>(self).markup ? EscapeValue(rt, a[1]) : a[1];
  return Same(rt, self, ReplaceText(rt, Text(self), old_text, Text(new_text), IntOr(rt, a[2], -1)));
}

// The part of a text that start and end arguments name, as byte offsets; first > last when empty
// beyond its end.
struct Window {
  size_t first, last;
  bool valid;
};

Window WindowOf(Runtime& rt, const Str& str, const Value& start, const Value& end) {
  const auto length = static_cast<int64_t>(str.length);
  const auto index = [&](const Value& v, int64_t otherwise) {
    if (v.is_missing() || v.is_none()) return otherwise;
    int64_t i = IndexValue(rt, v);
    if (i < 0) i = std::max<int64_t>(0, i + length);
    return i;
  };
  const int64_t first = index(start, 0);
  const int64_t last = std::min(index(end, length), length);
  if (first > length || first > last) return {0, 0, false};
  return {ByteOffset(str.text, str.length, static_cast<size_t>(first)),
          ByteOffset(str.text, str.length, static_cast<size_t>(last)), true};
}

template <bool FromRight, bool MustFind>
Value Find(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"find", {"sub", "start", "end"}, 1, false}, args);
  const std::string& wanted = TextArgument(rt, "find", a[0]);
  const Str& str = As<Str>(self);
  const Window window = WindowOf(rt, str, a[1], a[2]);
  rt.StepBytes(str.text.size() * 2);
  if (window.valid) {
    const std::string_view part =
        std::string_view(str.text).substr(window.first, window.last - window.first);
    const size_t at = FromRight ? part.rfind(wanted) : part.find(wanted);
    if (at != part.npos)
      return Value::Size(CountCodePoints(std::string_view(str.text).substr(0, window.first + at)));
  }
  if (MustFind) rt.FailValue("substring not found");
  return Value::Int64(-1);
}

Value Count(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"count", {"sub", "start", "end"}, 1, false}, args);
  const std::string& wanted = TextArgument(rt, "count", a[0]);
  const Str& str = As<Str>(self);
  const Window window = WindowOf(rt, str, a[1], a[2]);
  if (!window.valid) return Value::Int64(0);
  rt.StepBytes(str.text.size() * 2);
  const std::string_view part =
      std::string_view(str.text).substr(window.first, window.last - window.first);
  if (wanted.empty()) return Value::Size(CountCodePoints(part) + 1);
  int64_t count = 0;
  for (size_t at = part.find(wanted); at != part.npos; at = part.find(wanted, at + wanted.size()))
    ++count;
  return Value::Int64(count);
}

template <bool AtEnd>
Value StartsOrEnds(Runtime& rt, const Value& self, CallArgs& args) {
  const char* const name = AtEnd ? "endswith" : "startswith";
  const Bound a = BindArguments(rt, {name, {"prefix", "start", "end"}, 1, false}, args);
  const Str& str = As<Str>(self);
  const Window window = WindowOf(rt, str, a[1], a[2]);
  const std::string_view part =
      window.valid ? std::string_view(str.text).substr(window.first, window.last - window.first)
                   : "";
  const auto matches = [&](const Value& v) {
    const std::string& affix = TextArgument(rt, name, v);
    return window.valid && (AtEnd ? part.ends_with(affix) : part.starts_with(affix));
  };
  if (a[0].type() != Type::kTuple) return Value::Bool(matches(a[0]));
  return Value::Bool(std::any_of(Items(a[0]).begin(), Items(a[0]).end(), matches));
}

template <bool Suffix>
Value RemoveAffix(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a =
      BindArguments(rt, {Suffix ? "removesuffix" : "removeprefix", {"affix"}, 1, false}, args);
  const std::string& affix = TextArgument(rt, "removeprefix", a[0]);
  std::string_view text = Text(self);
  if (Suffix ? text.ends_with(affix) : text.starts_with(affix)) {
    text = Suffix ? text.substr(0, text.size() - affix.size()) : text.substr(affix.size());
  }
  return Same(rt, self, std::string(text));
}

std::string Repeated(Runtime& rt, std::string_view text, int64_t count) {
  rt.Reserve(static_cast<uint64_t>(std::max<int64_t>(count, 0)) * 4);
  std::string out;
  for (int64_t i = 0; i < count; ++i) out += text;
  return out;
}

enum class Side { kLeft, kRight, kBoth };

template <Side Text_>
Value Justify(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"center", {"width", "fillchar"}, 1, false}, args);
  const int64_t width = IndexValue(rt, a[0]);
  const std::string fill = a[1].is_missing() ? " " : TextArgument(rt, "center", a[1]);
  if (CountCodePoints(fill) != 1)
    rt.FailType("The fill character must be exactly one character long");
  const auto length = static_cast<int64_t>(As<Str>(self).length);
  if (width <= length) return Same(rt, self, Text(self));
  rt.Reserve(static_cast<uint64_t>(width));
  const int64_t pad = width - length;
  const int64_t left = Text_ == Side::kLeft    ? 0
                       : Text_ == Side::kRight ? pad
                                               : pad / 2 + (pad & width & 1);
  return Same(rt, self, Repeated(rt, fill, left) + Text(self) + Repeated(rt, fill, pad - left));
}

Value ZeroFill(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"zfill", {"width"}, 1, false}, args);
  const int64_t pad = IndexValue(rt, a[0]) - static_cast<int64_t>(As<Str>(self).length);
  const std::string& text = Text(self);
  const size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  return Same(rt, self, text.substr(0, sign) + Repeated(rt, "0", pad) + text.substr(sign));
}

Value ExpandTabs(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"expandtabs", {"tabsize"}, 0}, args);
  const int64_t size = IntOr(rt, a[0], 8);
  std::string out;
  int64_t column = 0;
  for (size_t i = 0; i < Text(self).size();) {
    const size_t begin = i;
    const char32_t c = DecodeAt(Text(self), &i);
    if (c == '\t') {
      if (size > 0) {
        const int64_t fill = size - column % size;
        rt.Reserve(out.size() + static_cast<uint64_t>(fill));
        rt.StepBytes(static_cast<size_t>(fill));
        out.append(static_cast<size_t>(fill), ' ');
        column += fill;
      }
      continue;
    }
    out.append(Text(self), begin, i - begin);
    column = c == '\n' || c == '\r' ? 0 : column + 1;
  }
  return Same(rt, self, std::move(out));
}

Value Join(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"join", {"iterable"}, 1, false}, args);
  const Values items = Collect(rt, a[0]);
  std::string out;
  const bool markup = As<Str>(self).markup;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += Text(self);
    if (markup) {
      out += Text(EscapeValue(rt, items[i]));
    } else if (items[i].is_str()) {
      out += Text(items[i]);
    } else {
      rt.FailType(
          fmt::format("sequence item {}: expected str instance, {} found", i, TypeName(items[i])));
    }
    rt.StepBytes(out.size() - std::min(out.size(), Text(self).size()));
    rt.Reserve(out.size());
  }
  return Same(rt, self, std::move(out));
}

Value Format(Runtime& rt, const Value& self, CallArgs& args) {
  return FormatBraces(rt, self, args);
}

Value FormatMap(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"format_map", {"mapping"}, 1, false}, args);
  if (a[0].type() != Type::kDict) rt.FailType("format_map() wants a mapping");
  CallArgs named;
  for (const auto& [key, value] : As<Dict>(a[0]).entries) {
    if (key.is_str()) named.named.emplace_back(key, value);
  }
  return FormatBraces(rt, self, named);
}

}  // namespace

bool IsLowerCase(std::string_view text) {
  bool cased = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = DecodeAt(text, &i);
    if (IsUpper(c) || IsTitle(c)) return false;
    cased = cased || IsLower(c);
  }
  return cased;
}

bool IsUpperCase(std::string_view text) {
  bool cased = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = DecodeAt(text, &i);
    if (IsLower(c) || IsTitle(c)) return false;
    cased = cased || IsUpper(c);
  }
  return cased;
}

std::string ReplaceText(Runtime& rt, std::string_view text, std::string_view old_text,
                        std::string_view new_text, int64_t count) {
  std::string out;
  size_t at = 0;
  const auto grow = [&](size_t bytes) {
    rt.StepBytes(bytes);
    rt.Reserve(out.size() + bytes);
  };
  grow(text.size());
  for (; count != 0; --count) {
    size_t hit = at;
    if (!old_text.empty()) {
      hit = text.find(old_text, at);
      if (hit == text.npos) break;
    }
    grow(new_text.size() + hit - at);
    out.append(text.substr(at, hit - at));
    out.append(new_text);
    at = hit + old_text.size();
    if (old_text.empty()) {  // between all characters, and at both ends
      if (at >= text.size()) return out;
      DecodeAt(text, &at);
      out.append(text.substr(hit, at - hit));
    }
  }
  out.append(text.substr(at));
  return out;
}

const std::vector<std::pair<const char*, Builtin>>& StringMethods() {
  static const std::vector<std::pair<const char*, Builtin>> methods = {
      {"capitalize", MapCase<ToCapitalized>},
      {"casefold", MapCase<CaseFold>},
      {"center", Justify<Side::kBoth>},
      {"count", Count},
      {"endswith", StartsOrEnds<true>},
      {"expandtabs", ExpandTabs},
      {"find", Find<false, false>},
      {"format", Format},
      {"format_map", FormatMap},
      {"index", Find<false, true>},
      {"isalnum", AllAre<IsAlnum>},
      {"isalpha", AllAre<IsAlpha>},
      {"isascii", IsAscii},
      {"isdecimal", AllAre<IsDecimal>},
      {"isdigit", AllAre<IsDigit>},
      {"isidentifier", IsIdentifierText},
      {"islower", IsLowerText},
      {"isnumeric", AllAre<IsNumeric>},
      {"isprintable", IsPrintableText},
      {"isspace", AllAre<IsSpace>},
      {"istitle", IsTitleText},
      {"isupper", IsUpperText},
      {"join", Join},
      {"ljust", Justify<Side::kLeft>},
      {"lower", MapCase<ToLower>},
      {"lstrip", StripText<1>},
      {"partition", Partition<false>},
      {"removeprefix", RemoveAffix<false>},
      {"removesuffix", RemoveAffix<true>},
      {"replace", Replace},
      {"rfind", Find<true, false>},
      {"rindex", Find<true, true>},
      {"rjust", Justify<Side::kRight>},
      {"rpartition", Partition<true>},
      {"rsplit", Split<true>},
      {"rstrip", StripText<2>},
      {"split", Split<false>},
      {"splitlines", SplitLinesMethod},
      {"startswith", StartsOrEnds<false>},
      {"strip", StripText<3>},
      {"swapcase", MapCase<SwapCase>},
      {"title", MapCase<ToTitle>},
      {"upper", MapCase<ToUpper>},
      {"zfill", ZeroFill},
  };
  return methods;
}

}  // namespace apr::jinja
