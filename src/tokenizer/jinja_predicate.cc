// The tests of templates ("x is string"). See jinja_builtin.h.
#include <fmt/format.h>

#include "tokenizer/jinja_arguments.h"
#include "tokenizer/jinja_builtin.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_string_method.h"

namespace apr::jinja {
namespace {

// A test without arguments, by a function of the value.
template <bool (*Is)(const Value&)>
Value Simple(Runtime& rt, const Value& self, CallArgs& args) {
  if (!args.positional.empty() || !args.named.empty()) BindArguments(rt, {"test", {}, 0}, args);
  return Value::Bool(Is(self));
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }
bool IsUndefined(const Value& v) { return v.is_undefined(); }
bool IsNone(const Value& v) { return v.is_none(); }
bool IsBoolean(const Value& v) { return v.is_bool(); }
bool IsTrue(const Value& v) { return v.is_bool() && v.bool_value(); }
bool IsFalse(const Value& v) { return v.is_bool() && !v.bool_value(); }
bool IsInteger(const Value& v) { return v.is_int(); }
bool IsFloat(const Value& v) { return v.is_float(); }
bool IsNumber(const Value& v) { return v.is_number(); }
bool IsString(const Value& v) { return v.is_str(); }
bool IsMapping(const Value& v) { return v.type() == Type::kDict; }
bool IsSequence(const Value& v) { return Length(v) >= 0 && v.type() != Type::kView; }
bool IsEscaped(const Value& v) { return v.is_str() && As<Str>(v).markup; }
bool IsCallable(const Value& v) {
  switch (v.type()) {
    case Type::kMacro:
    case Type::kFunction:
    case Type::kMethod:
    case Type::kLoop:
    case Type::kJoiner:
    case Type::kUndefined:
      return true;
    default:
      return false;
  }
}

Value IsLowerTest(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"lower", {}, 0}, args);
  return Value::Bool(IsLowerCase(ToStr(rt, self)));
}
Value IsUpperTest(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"upper", {}, 0}, args);
  return Value::Bool(IsUpperCase(ToStr(rt, self)));
}

template <int Remainder>
Value Parity(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"odd", {}, 0}, args);
  return Value::Bool(
      Equal(BinaryOperation(rt, Op::kMod, self, Value::Int64(2)), Value::Int64(Remainder)));
}

Value DivisibleBy(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"divisibleby", {"num"}, 1}, args);
  return Value::Bool(Equal(BinaryOperation(rt, Op::kMod, self, a[0]), Value::Int64(0)));
}

template <Builtin (*Find)(std::string_view)>
Value Exists(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"filter", {}, 0}, args);
  if (!IsHashable(self)) rt.FailType(fmt::format("unhashable type: '{}'", TypeName(self)));
  return Value::Bool(self.is_str() && Find(Text(self)) != nullptr);
}

Value SameAs(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"sameas", {"other"}, 1}, args);
  if (self.is_object() && a[0].is_object() && !self.is_str() && !self.is_int()) {
    return Value::Bool(self.SameObject(a[0]));
  }
  return Value::Bool(self.type() == a[0].type() && Equal(self, a[0]));
}

template <Op Operator>
Value Compare(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"comparison", {"other"}, 1, false}, args);
  return Value::Bool(CompareOperation(rt, Operator, self, a[0]));
}

Value InTest(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"in", {"seq"}, 1}, args);
  return Value::Bool(Contains(rt, a[0], self));
}

}  // namespace

Builtin FindTest(std::string_view name) {
  static constexpr std::pair<std::string_view, Builtin> kTests[] = {
      {"!=", Compare<Op::kNe>},
      {"<", Compare<Op::kLt>},
      {"<=", Compare<Op::kLe>},
      {"==", Compare<Op::kEq>},
      {">", Compare<Op::kGt>},
      {">=", Compare<Op::kGe>},
      {"boolean", Simple<IsBoolean>},
      {"callable", Simple<IsCallable>},
      {"defined", Simple<IsDefined>},
      {"divisibleby", DivisibleBy},
      {"eq", Compare<Op::kEq>},
      {"equalto", Compare<Op::kEq>},
      {"escaped", Simple<IsEscaped>},
      {"even", Parity<0>},
      {"false", Simple<IsFalse>},
      {"filter", Exists<FindFilter>},
      {"float", Simple<IsFloat>},
      {"ge", Compare<Op::kGe>},
      {"greaterthan", Compare<Op::kGt>},
      {"gt", Compare<Op::kGt>},
      {"in", InTest},
      {"integer", Simple<IsInteger>},
      {"iterable", Simple<IsIterable>},
      {"le", Compare<Op::kLe>},
      {"lessthan", Compare<Op::kLt>},
      {"lower", IsLowerTest},
      {"lt", Compare<Op::kLt>},
      {"mapping", Simple<IsMapping>},
      {"ne", Compare<Op::kNe>},
      {"none", Simple<IsNone>},
      {"number", Simple<IsNumber>},
      {"odd", Parity<1>},
      {"sameas", SameAs},
      {"sequence", Simple<IsSequence>},
      {"string", Simple<IsString>},
      {"test", Exists<FindTest>},
      {"true", Simple<IsTrue>},
      {"undefined", Simple<IsUndefined>},
      {"upper", IsUpperTest},
  };
  for (const auto& [test, function] : kTests) {
    if (test == name) return function;
  }
  return nullptr;
}

}  // namespace apr::jinja
