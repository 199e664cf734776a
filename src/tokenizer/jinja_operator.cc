// See jinja_operator.h: arithmetic and comparison. Access and iteration are in jinja_access.cc.
#include "tokenizer/jinja_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

constexpr const char* kSigns[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
constexpr const char* kCompareSigns[] = {"==", "!=", "<", "<=", ">", ">="};

[[noreturn]] void FailOperands(Runtime& rt, Op op, const Value& a, const Value& b) {
  if (a.is_undefined()) rt.FailUndefined(a);
  if (b.is_undefined()) rt.FailUndefined(b);
  if (op == Op::kAdd && (a.is_str() || a.is_sequence())) {
    rt.FailType(fmt::format("can only concatenate {0} (not \"{1}\") to {0}", TypeName(a.type()),
                            TypeName(b)));
  }
  rt.FailType(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'",
                          kSigns[static_cast<size_t>(op)], TypeName(a), TypeName(b)));
}

[[noreturn]] void FailZero(Runtime& rt) { rt.Fail("ZeroDivisionError: division by zero"); }

Int FloorDivide(Int a, Int b) {
  const Int quotient = a / b;
  return a % b != 0 && ((a < 0) != (b < 0)) ? quotient - 1 : quotient;
}

double FloatMod(double a, double b) {
  double mod = std::fmod(a, b);
  if (mod == 0) return std::copysign(0.0, b);
  if ((b < 0) != (mod < 0)) mod += b;
  return mod;
}

double FloatFloorDivide(double a, double b) {
  const double quotient = (a - FloatMod(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

Value IntPower(Runtime& rt, Int base, Int exponent) {
  if (exponent < 0) {
    if (base == 0) rt.Fail("ZeroDivisionError: 0.0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  Int result = 1;
  if (base == 0 || base == 1) return rt.MakeInt(exponent == 0 ? 1 : base);
  if (base == -1) return rt.MakeInt(exponent % 2 == 0 ? 1 : -1);
  for (; exponent > 0; --exponent) {  // ends by overflow within 127 rounds
    if (__builtin_mul_overflow(result, base, &result)) rt.FailOverflow();
  }
  return rt.MakeInt(result);
}

Value FloatPower(Runtime& rt, double base, double exponent) {
  if (base == 0 && exponent < 0) {
    rt.Fail("ZeroDivisionError: 0.0 cannot be raised to a negative power");
  }
  if (base < 0 && std::isfinite(base) && std::isfinite(exponent) &&
      std::floor(exponent) != exponent) {
    rt.FailValue("complex numbers are not supported");
  }
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) {
    rt.Fail("OverflowError: (34, 'Numerical result out of range')");
  }
  return Value::Float(result);
}

Value IntOperation(Runtime& rt, Op op, Int a, Int b) {
  Int result = 0;
  bool overflow = false;
  switch (op) {
    case Op::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Op::kSub:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Op::kMul:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Op::kPow:
      return IntPower(rt, a, b);
    default:
      if (b == 0) FailZero(rt);
      if (op == Op::kDiv) {
        const auto quotient = static_cast<long double>(a) / static_cast<long double>(b);
        return Value::Float(static_cast<double>(quotient));
      }
      if (b == -1) {  // the one quotient that can overflow
        if (op == Op::kMod) return Value::Int64(0);
        overflow = __builtin_sub_overflow(Int{0}, a, &result);
      } else {
        const Int quotient = FloorDivide(a, b);
        result = op == Op::kFloorDiv ? quotient : a - quotient * b;
      }
  }
  if (overflow) rt.FailOverflow();
  return rt.MakeInt(result);
}

Value FloatOperation(Runtime& rt, Op op, double a, double b) {
  switch (op) {
    case Op::kAdd:
      return Value::Float(a + b);
    case Op::kSub:
      return Value::Float(a - b);
    case Op::kMul:
      return Value::Float(a * b);
    case Op::kPow:
      return FloatPower(rt, a, b);
    default:
      break;
  }
  if (b == 0) FailZero(rt);
  if (op == Op::kDiv) return Value::Float(a / b);
  return Value::Float(op == Op::kMod ? FloatMod(a, b) : FloatFloorDivide(a, b));
}

Value Repeat(Runtime& rt, const Value& sequence, Int times) {
  const Int count = std::max<Int>(times, 0);
  const auto length =
      static_cast<Int>(sequence.is_str() ? Text(sequence).size() : Items(sequence).size());
  if (length == 0 || count == 0) {
    if (sequence.is_str()) return rt.MakeStr({}, As<Str>(sequence).markup);
    return sequence.type() == Type::kList ? rt.MakeList({}) : rt.MakeTuple({});
  }
  if (count > INT64_MAX / length) rt.Reserve(UINT64_MAX);
  const auto total = static_cast<uint64_t>(count * length);
  if (sequence.is_str()) {
    rt.Reserve(total);
    std::string out;
    out.reserve(total);
    for (Int i = 0; i < count; ++i) out += Text(sequence);
    return rt.MakeStr(std::move(out), As<Str>(sequence).markup);
  }
  rt.ReserveValues(total);
  rt.Step(static_cast<int64_t>(total));
  Values out;
  out.reserve(total);
  for (Int i = 0; i < count; ++i)
    out.insert(out.end(), Items(sequence).begin(), Items(sequence).end());
  return sequence.type() == Type::kList ? rt.MakeList(std::move(out))
                                        : rt.MakeTuple(std::move(out));
}

Value AddSequences(Runtime& rt, const Value& a, const Value& b) {
  rt.ReserveValues(Items(a).size() + Items(b).size());
  Values out;
  out.reserve(Items(a).size() + Items(b).size());
  out.insert(out.end(), Items(a).begin(), Items(a).end());
  out.insert(out.end(), Items(b).begin(), Items(b).end());
  return a.type() == Type::kList ? rt.MakeList(std::move(out)) : rt.MakeTuple(std::move(out));
}

// -1, 0, 1; 2 when a NaN makes them unordered.
int Order(Int a, Int b) { return a < b ? -1 : a > b ? 1 : 0; }
int OrderFloats(double a, double b) { return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2; }
int OrderIntFloat(Int i, double f) {
  if (std::isnan(f)) return 2;
  if (f >= 0x1p126) return -1;
  if (f <= -0x1p126) return 1;
  const Int whole = static_cast<Int>(f);
  if (i != whole) return i < whole ? -1 : 1;
  return OrderFloats(0, f - std::trunc(f));
}

int OrderNumbers(const Value& a, const Value& b) {
  if (a.is_float() && b.is_float()) return OrderFloats(a.float_value(), b.float_value());
  if (a.is_float()) {
    const int order = OrderIntFloat(b.int_value(), a.float_value());
    return order == 2 ? 2 : -order;
  }
  return b.is_float() ? OrderIntFloat(a.int_value(), b.float_value())
                      : Order(a.int_value(), b.int_value());
}

int OrderValues(Runtime& rt, Op op, const Value& a, const Value& b) {
  rt.Step();
  if (a.is_undefined()) rt.FailUndefined(a);
  if (b.is_undefined()) rt.FailUndefined(b);
  if (a.is_number() && b.is_number()) return OrderNumbers(a, b);
  if (a.is_str() && b.is_str()) {
    const int order = Text(a).compare(Text(b));
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (a.is_sequence() && a.type() == b.type()) {
    const Values& left = Items(a);
    const Values& right = Items(b);
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!Equal(left[i], right[i])) return OrderValues(rt, op, left[i], right[i]);
    }
    return Order(static_cast<Int>(left.size()), static_cast<Int>(right.size()));
  }
  rt.FailType(fmt::format("'{}' not supported between instances of '{}' and '{}'",
                          kCompareSigns[static_cast<size_t>(op) - static_cast<size_t>(Op::kEq)],
                          TypeName(a), TypeName(b)));
}

bool ContainsKey(Runtime& rt, const Dict& dict, const Value& key) {
  if (!IsHashable(key)) rt.FailType(fmt::format("unhashable type: '{}'", TypeName(key)));
  return dict.Find(key) != nullptr;
}

bool ViewContains(Runtime& rt, const View& view, const Value& item) {
  const auto& entries = view.dict().entries;
  switch (view.kind) {
    case ViewKind::kKeys:
      return ContainsKey(rt, view.dict(), item);
    case ViewKind::kValues:
      return std::any_of(entries.begin(), entries.end(),
                         [&](const auto& entry) { return Equal(entry.second, item); });
    case ViewKind::kItems:
      break;
  }
  if (item.type() != Type::kTuple || Items(item).size() != 2) return false;
  if (!IsHashable(Items(item)[0]))
    rt.FailType(fmt::format("unhashable type: '{}'", TypeName(Items(item)[0])));
  const Value* found = view.dict().Find(Items(item)[0]);
  return found != nullptr && Equal(*found, Items(item)[1]);
}

bool RangeContains(const Range& range, const Value& item) {
  if (!item.is_number()) return false;
  if (item.is_float() && std::trunc(item.float_value()) != item.float_value()) return false;
  if (item.is_float() && std::abs(item.float_value()) > 0x1p62) return false;
  const Int value = item.is_float() ? static_cast<Int>(item.float_value()) : item.int_value();
  const Int offset = value - range.start;
  return range.count > 0 && offset % range.step == 0 && offset / range.step >= 0 &&
         offset / range.step < range.count;
}

}  // namespace

Value ConcatStr(Runtime& rt, const Value& a, const Value& b) {
  const bool markup = As<Str>(a).markup || As<Str>(b).markup;
  const auto part = [&](const Value& v) {
    return markup && !As<Str>(v).markup ? EscapeHtml(Text(v)) : std::string();
  };
  const std::string left = part(a);
  const std::string right = part(b);
  const std::string& l = markup && !As<Str>(a).markup ? left : Text(a);
  const std::string& r = markup && !As<Str>(b).markup ? right : Text(b);
  rt.Reserve(l.size() + r.size());
  std::string out;
  out.reserve(l.size() + r.size());
  out += l;
  out += r;
  return rt.MakeStr(std::move(out), markup);
}

Value EscapeValue(Runtime& rt, const Value& value) {
  if (value.is_str() && As<Str>(value).markup) return value;
  const std::string text = ToStr(rt, value);
  rt.Reserve(text.size() * 5);
  return rt.MakeStr(EscapeHtml(text), true);
}

Value BinaryOperation(Runtime& rt, Op op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return FloatOperation(rt, op, a.number(), b.number());
    return IntOperation(rt, op, a.int_value(), b.int_value());
  }
  switch (op) {
    case Op::kAdd:
      if (a.is_str() && b.is_str()) return ConcatStr(rt, a, b);
      if (a.is_sequence() && a.type() == b.type()) return AddSequences(rt, a, b);
      break;
    case Op::kMul:
      if ((a.is_str() || a.is_sequence()) && b.is_integral()) return Repeat(rt, a, b.int_value());
      if ((b.is_str() || b.is_sequence()) && a.is_integral()) return Repeat(rt, b, a.int_value());
      if ((a.is_str() || a.is_sequence()) && !b.is_undefined()) {
        rt.FailType(fmt::format("can't multiply sequence by non-int of type '{}'", TypeName(b)));
      }
      break;
    case Op::kMod:
      if (a.is_str()) return FormatPercent(rt, a, b);
      break;
    default:
      break;
  }
  FailOperands(rt, op, a, b);
}

Value Negate(Runtime& rt, const Value& value) {
  if (value.is_float()) return Value::Float(-value.float_value());
  if (value.is_undefined()) rt.FailUndefined(value);
  if (!value.is_integral())
    rt.FailType(fmt::format("bad operand type for unary -: '{}'", TypeName(value)));
  Int result;
  if (__builtin_sub_overflow(Int{0}, value.int_value(), &result)) rt.FailOverflow();
  return rt.MakeInt(result);
}

Value Plus(Runtime& rt, const Value& value) {
  if (value.is_float()) return value;
  if (value.is_undefined()) rt.FailUndefined(value);
  if (!value.is_integral())
    rt.FailType(fmt::format("bad operand type for unary +: '{}'", TypeName(value)));
  return rt.MakeInt(value.int_value());
}

bool Less(Runtime& rt, const Value& a, const Value& b) {
  return OrderValues(rt, Op::kLt, a, b) == -1;
}

bool CompareOperation(Runtime& rt, Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::kEq:
      return Equal(a, b);
    case Op::kNe:
      return !Equal(a, b);
    case Op::kIn:
      return Contains(rt, b, a);
    case Op::kNotIn:
      return !Contains(rt, b, a);
    default:
      break;
  }
  const int order = OrderValues(rt, op, a, b);
  switch (op) {
    case Op::kLt:
      return order == -1;
    case Op::kLe:
      return order == -1 || order == 0;
    case Op::kGt:
      return order == 1;
    default:
      return order == 1 || order == 0;
  }
}

bool Contains(Runtime& rt, const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::kStr:
      if (!item.is_str()) {
        rt.FailType(
            fmt::format("'in <string>' requires string as left operand, not {}", TypeName(item)));
      }
      rt.StepBytes(Text(container).size());
      return Text(container).find(Text(item)) != std::string::npos;
    case Type::kList:
    case Type::kTuple:
      rt.Step(static_cast<int64_t>(Items(container).size()));
      return std::any_of(Items(container).begin(), Items(container).end(),
                         [&](const Value& v) { return Equal(v, item); });
    case Type::kDict:
      return ContainsKey(rt, As<Dict>(container), item);
    case Type::kView:
      return ViewContains(rt, As<View>(container), item);
    case Type::kRange:
      return RangeContains(As<Range>(container), item);
    case Type::kUndefined:
      return false;
    case Type::kLoop:
    case Type::kIterator: {
      const Value iterator = MakeIterator(rt, container);
      Value next;
      while (NextItem(rt, iterator, &next)) {
        if (Equal(next, item)) return true;
      }
      return false;
    }
    default:
      rt.FailType(fmt::format("argument of type '{}' is not iterable", TypeName(container)));
  }
}

}  // namespace apr::jinja
