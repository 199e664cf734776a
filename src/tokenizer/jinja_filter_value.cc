// Filters on numbers and on any value, and the list of all filters. See jinja_builtin.h.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "tokenizer/jinja_arguments.h"
#include "tokenizer/jinja_builtin.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_json.h"
#include "tokenizer/jinja_method.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

// Text without white space around it and with single underscores between digits removed; nullopt if
// an underscore stands elsewhere.
std::optional<std::string> NumberText(std::string_view text) {
  std::string out;
  const std::string_view body = Strip(text);
  const auto digit = [&](size_t i) {
    return i < body.size() && std::isalnum(static_cast<unsigned char>(body[i]));
  };
  for (size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '_') {
      out += body[i];
    } else if (i == 0 || !digit(i - 1) || !digit(i + 1)) {
      return std::nullopt;
    }
  }
  return out;
}

// int(text, base); nullopt where Python raises ValueError.
std::optional<Int> ParseInt(Runtime& rt, std::string_view text, int64_t base) {
  std::string body = NumberText(text).value_or("");
  bool negative = false;
  if (!body.empty() && (body[0] == '+' || body[0] == '-')) {
    negative = body[0] == '-';
    body.erase(0, 1);
  }
  if (body.size() > 2 && body[0] == '0') {
    const char kind = static_cast<char>(body[1] | 32);
    const int64_t named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : -1;
    if (named > 0 && (base == named || base == 0)) {
      base = named;
      body.erase(0, 2);
    }
  }
  if (base == 0) base = 10;
  if (body.empty()) return std::nullopt;
  Int value = 0;
  for (const char c : body) {
    const int digit = c >= '0' && c <= '9'                          ? c - '0'
                      : std::isalpha(static_cast<unsigned char>(c)) ? (c | 32) - 'a' + 10
                                                                    : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      rt.FailOverflow();
    }
  }
  return negative ? -value : value;
}

std::optional<double> ParseFloat(std::string_view text) {
  std::string body = NumberText(text).value_or("");
  bool negative = false;
  if (!body.empty() && (body[0] == '+' || body[0] == '-')) {
    negative = body[0] == '-';
    body.erase(0, 1);
  }
  std::string lower = ToLower(body);
  double value = 0;
  if (lower == "inf" || lower == "infinity") {
    value = HUGE_VAL;
  } else if (lower == "nan") {
    value = NAN;
  } else {
    if (body.empty() || !(std::isdigit(static_cast<unsigned char>(body[0])) || body[0] == '.'))
      return std::nullopt;
    const auto result = std::from_chars(body.data(), body.data() + body.size(), value);
    if (result.ptr != body.data() + body.size() || result.ec == std::errc::invalid_argument)
      return std::nullopt;
    if (result.ec == std::errc::result_out_of_range) value = std::strtod(body.c_str(), nullptr);
  }
  return negative ? -value : value;
}

std::optional<Int> Truncate(Runtime& rt, double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (std::abs(value) >= 0x1p126) rt.FailOverflow();
  return static_cast<Int>(value);
}

Value IntFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"int", {"default", "base"}, 0}, args);
  const int64_t base = IntOr(rt, a[1], 10);
  if (self.is_undefined()) rt.FailUndefined(self);
  std::optional<Int> value;
  if (self.is_str()) {
    if (base == 0 || (base >= 2 && base <= 36)) value = ParseInt(rt, Text(self), base);
    if (!value) {
      const auto number = ParseFloat(Text(self));
      if (number) value = Truncate(rt, *number);
    }
  } else if (self.is_integral()) {
    value = self.int_value();
  } else if (self.is_float()) {
    if (std::isinf(self.float_value()))
      rt.Fail("OverflowError: cannot convert float infinity to integer");
    value = Truncate(rt, self.float_value());
  }
  if (value) return rt.MakeInt(*value);
  return a[0].is_missing() ? Value::Int64(0) : a[0];
}

Value FloatFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"float", {"default"}, 0}, args);
  if (self.is_undefined()) rt.FailUndefined(self);
  if (self.is_number()) return Value::Float(self.number());
  if (self.is_str()) {
    if (const auto value = ParseFloat(Text(self))) return Value::Float(*value);
  }
  return a[0].is_missing() ? Value::Float(0) : a[0];
}

Value AbsFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"abs", {}, 0}, args);
  if (self.is_undefined()) rt.FailUndefined(self);
  if (!self.is_number())
    rt.FailType(fmt::format("bad operand type for abs(): '{}'", TypeName(self)));
  if (self.is_float()) return Value::Float(std::abs(self.float_value()));
  return self.int_value() < 0 ? Negate(rt, self) : rt.MakeInt(self.int_value());
}

// round(value, digits) of an int: to a multiple of a power of ten, ties to even.
Int RoundInt(Runtime& rt, Int value, int64_t digits) {
  if (digits >= 0) return value;
  if (digits < -38) return 0;
  Int unit = 1;
  for (int64_t i = 0; i < -digits; ++i) {
    if (__builtin_mul_overflow(unit, Int{10}, &unit)) return 0;
  }
  Int low = value / unit * unit;
  if (low > value) low -= unit;
  const Int rest = value - low;
  const bool up = rest > unit - rest || (rest == unit - rest && (low / unit) % 2 != 0);
  if (up && __builtin_add_overflow(low, unit, &low)) rt.FailOverflow();
  return low;
}

Value RoundCommon(Runtime& rt, const Value& self, const Value& digits_value) {
  if (digits_value.is_none()) {
    const double rounded = std::nearbyint(self.number());
    if (self.is_integral()) return rt.MakeInt(self.int_value());
    const auto value = Truncate(rt, rounded);
    if (!value) rt.FailValue("cannot convert float to integer");
    return rt.MakeInt(*value);
  }
  const int64_t digits = IntOr(rt, digits_value, 0);
  if (self.is_integral()) return rt.MakeInt(RoundInt(rt, self.int_value(), digits));
  const double value = self.float_value();
  if (digits >= 0)
    return Value::Float(RoundFloat(value, static_cast<int>(std::min<int64_t>(digits, 400))));
  if (!std::isfinite(value)) return self;
  if (digits < -308) return Value::Float(std::copysign(0.0, value));
  const auto unit = std::pow(10.0L, static_cast<long double>(-digits));
  return Value::Float(
      static_cast<double>(std::nearbyint(static_cast<long double>(value) / unit) * unit));
}

Value RoundFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"round", {"precision", "method"}, 0}, args);
  const std::string method = a[1].is_missing() ? "common" : ToStr(rt, a[1]);
  if (method != "common" && method != "ceil" && method != "floor") {
    rt.Fail("method must be common, ceil or floor");
  }
  if (self.is_undefined()) rt.FailUndefined(self);
  if (!self.is_number())
    rt.FailType(fmt::format("type {} doesn't define __round__ method", TypeName(self)));
  if (method == "common") return RoundCommon(rt, self, a[0]);
  const Value precision = a[0].is_missing() ? Value::Int64(0) : a[0];
  const Value unit = BinaryOperation(rt, Op::kPow, Value::Int64(10), precision);
  const Value scaled = BinaryOperation(rt, Op::kMul, self, unit);
  Value whole = scaled;
  if (scaled.is_float()) {
    const double value = scaled.float_value();
    const auto rounded = Truncate(rt, method == "ceil" ? std::ceil(value) : std::floor(value));
    if (!rounded) rt.FailValue("cannot convert float to integer");
    whole = rt.MakeInt(*rounded);
  }
  return BinaryOperation(rt, Op::kDiv, whole, unit);
}

Value DefaultFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"default", {"default_value", "boolean"}, 0}, args);
  if (self.is_undefined() || (FlagOr(a[1], false) && !Truthy(self))) {
    return a[0].is_missing() ? rt.MakeStr({}) : a[0];
  }
  return self;
}

Value AttrFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"attr", {"name"}, 1}, args);
  TextArgument(rt, "attr", a[0]);
  Value value = AttributeOnly(rt, self, a[0], FindMethods(Text(a[0])));
  if (!value.is_missing()) return value;
  if (self.is_undefined()) rt.FailUndefined(self);
  return rt.MakeUndefined(Undefined::Kind::kAttribute, a[0], self.type());
}

Value ToJsonFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a =
      BindArguments(rt, {"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0}, args);
  JsonStyle style;
  style.ensure_ascii = FlagOr(a[0], false);
  style.sort_keys = FlagOr(a[3], false);
  if (!a[1].is_missing() && !a[1].is_none()) {
    style.indented = true;
    style.item_separator = ",";
    if (a[1].is_str()) {
      style.indent = Text(a[1]);
    } else {
      const int64_t width = std::max<int64_t>(0, IndexValue(rt, a[1]));
      rt.Reserve(static_cast<uint64_t>(width));
      style.indent.assign(static_cast<size_t>(width), ' ');
    }
  }
  if (!a[2].is_missing() && !a[2].is_none()) {
    const Values separators = Collect(rt, a[2]);
    if (separators.size() != 2) rt.FailValue("separators must be two");
    style.item_separator = TextArgument(rt, "tojson", separators[0]);
    style.key_separator = TextArgument(rt, "tojson", separators[1]);
  }
  return rt.MakeStr(ToJson(rt, self, style));
}

template <const char* const* Name>
Value Unsupported(Runtime& rt, const Value& self, CallArgs& args) {
  static_cast<void>(self);
  static_cast<void>(args);
  rt.Fail(fmt::format("the filter '{}' is not supported", *Name));
}

constexpr const char* kPprint = "pprint";
constexpr const char* kRandom = "random";
constexpr const char* kStriptags = "striptags";
constexpr const char* kUrlize = "urlize";
constexpr const char* kWordwrap = "wordwrap";

}  // namespace

Builtin FindValueFilter(std::string_view name) {
  static constexpr std::pair<std::string_view, Builtin> kFilters[] = {
      {"abs", AbsFilter},
      {"attr", AttrFilter},
      {"d", DefaultFilter},
      {"default", DefaultFilter},
      {"float", FloatFilter},
      {"int", IntFilter},
      {"pprint", Unsupported<&kPprint>},
      {"random", Unsupported<&kRandom>},
      {"round", RoundFilter},
      {"striptags", Unsupported<&kStriptags>},
      {"tojson", ToJsonFilter},
      {"urlize", Unsupported<&kUrlize>},
      {"wordwrap", Unsupported<&kWordwrap>},
  };
  for (const auto& [filter, function] : kFilters) {
    if (filter == name) return function;
  }
  return nullptr;
}

Builtin FindFilter(std::string_view name) {
  if (const Builtin text = FindTextFilter(name)) return text;
  if (const Builtin sequence = FindSequenceFilter(name)) return sequence;
  return FindValueFilter(name);
}

}  // namespace apr::jinja
