// Expressions and calls of the interpreter. See jinja_interpreter.h.
#include <fmt/format.h>

#include <algorithm>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_operator.h"

namespace apr::jinja {

Value Interpreter::Eval(const Expr& expr) {
  rt_.Step();
  if (expr.kind == ExprKind::kConst) return expr.value;
  if (expr.kind == ExprKind::kName) return EvalName(expr);
  const Runtime::Deeper deeper(rt_);
  return EvalNode(expr);
}

Value Interpreter::EvalName(const Expr& expr) {
  const Value& value = Variable(expr.var);
  if (!value.is_missing()) return value;
  return rt_.MakeUndefined(Undefined::Kind::kVariable, expr.value);
}

Value Interpreter::EvalNode(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kTuple:
    case ExprKind::kList:
    case ExprKind::kDict:
      return EvalCollection(expr);
    case ExprKind::kBinary: {
      const Value left = Eval(*expr.kids[0]);
      const Value right = Eval(*expr.kids[1]);
      rt_.line = expr.line;
      return BinaryOperation(rt_, expr.op, left, right);
    }
    case ExprKind::kAnd: {
      Value left = Eval(*expr.kids[0]);
      return Truthy(left) ? Eval(*expr.kids[1]) : left;
    }
    case ExprKind::kOr: {
      Value left = Eval(*expr.kids[0]);
      return Truthy(left) ? left : Eval(*expr.kids[1]);
    }
    case ExprKind::kNot:
      return Value::Bool(!Truthy(Eval(*expr.kids[0])));
    case ExprKind::kNegate:
      return Negate(rt_, Eval(*expr.kids[0]));
    case ExprKind::kPlus:
      return Plus(rt_, Eval(*expr.kids[0]));
    case ExprKind::kCompare:
      return EvalCompare(expr);
    case ExprKind::kConcat:
      return EvalConcat(expr);
    case ExprKind::kAttribute: {
      const Value object = Eval(*expr.kids[0]);
      rt_.line = expr.line;
      return GetAttribute(rt_, object, expr.value, expr.methods);
    }
    case ExprKind::kItem:
      return EvalItem(expr);
    case ExprKind::kCall:
      return EvalCall(expr);
    case ExprKind::kFilter:
      return EvalFilter(expr);
    case ExprKind::kTest:
      return EvalTest(expr);
    case ExprKind::kConditional:
      return EvalConditional(expr);
    case ExprKind::kConst:
    case ExprKind::kName:
    case ExprKind::kNamespaceAttribute:
    case ExprKind::kSlice:
      break;
  }
  rt_.Fail("expression cannot stand here");
}

Value Interpreter::EvalCollection(const Expr& expr) {
  if (expr.kind == ExprKind::kDict) {
    Value result(new Dict(&rt_));
    for (size_t i = 0; i < expr.kids.size(); i += 2) {
      Value key = Eval(*expr.kids[i]);
      Value value = Eval(*expr.kids[i + 1]);
      if (!IsHashable(key)) rt_.FailType(fmt::format("unhashable type: '{}'", TypeName(key)));
      As<Dict>(result).Set(std::move(key), std::move(value));
    }
    return result;
  }
  Values items;
  items.reserve(expr.kids.size());
  for (const ExprPtr& kid : expr.kids) items.push_back(Eval(*kid));
  return expr.kind == ExprKind::kList ? rt_.MakeList(std::move(items))
                                      : rt_.MakeTuple(std::move(items));
}

Value Interpreter::EvalCompare(const Expr& expr) {
  Value left = Eval(*expr.kids[0]);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = Eval(*expr.kids[i + 1]);
    rt_.line = expr.line;
    if (!CompareOperation(rt_, expr.ops[i], left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Interpreter::EvalConcat(const Expr& expr) {
  Values parts;
  parts.reserve(expr.kids.size());
  size_t size = 0;
  for (const ExprPtr& kid : expr.kids) {
    parts.push_back(Eval(*kid));
    if (parts.back().type() == Type::kStr) size += Text(parts.back()).size();
  }
  std::string text;
  text.reserve(size);
  for (const Value& part : parts) AppendStr(rt_, part, &text);
  return rt_.MakeStr(std::move(text));
}

Value Interpreter::EvalItem(const Expr& expr) {
  const Value object = Eval(*expr.kids[0]);
  const Expr& arg = *expr.kids[1];
  if (arg.kind != ExprKind::kSlice) {
    const Value key = Eval(arg);
    rt_.line = expr.line;
    return GetItem(rt_, object, key);
  }
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (arg.kids[i] != nullptr) bounds[i] = Eval(*arg.kids[i]);
  }
  rt_.line = expr.line;
  return GetSlice(rt_, object, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::EvalConditional(const Expr& expr) {
  if (Truthy(Eval(*expr.kids[0]))) return Eval(*expr.kids[1]);
  if (expr.kids[2] != nullptr) return Eval(*expr.kids[2]);
  return rt_.MakeHint(fmt::format(
      "the inline if-expression on line {} evaluated to false and no else section was defined.",
      expr.line));
}

// The arguments of a call, filter or test: kids behind the first, keywords, *args and **kwargs.
CallArgs Interpreter::EvalArguments(const Expr& expr) {
  CallArgs args;
  args.positional.reserve(expr.kids.size() - 1);
  for (size_t i = 1; i < expr.kids.size(); ++i) args.positional.push_back(Eval(*expr.kids[i]));
  for (const auto& [name, value] : expr.named) args.named.emplace_back(name, Eval(*value));
  if (expr.star != nullptr) {
    for (Value& value : Collect(rt_, Eval(*expr.star))) args.positional.push_back(std::move(value));
  }
  if (expr.star_star != nullptr) {
    const Value more = Eval(*expr.star_star);
    if (more.type() != Type::kDict) rt_.FailType("argument after ** must be a mapping");
    for (const auto& [key, value] : As<Dict>(more).entries) {
      if (!key.is_str()) rt_.FailType("keywords must be strings");
      for (const auto& [name, unused] : args.named) {
        if (Text(name) == Text(key))
          rt_.FailType("got multiple values for keyword argument " + QuoteText(Text(key)));
      }
      rt_.Step(static_cast<int64_t>(args.named.size()));
      args.named.emplace_back(key, value);
    }
  }
  rt_.line = expr.line;
  return args;
}

// `caller`: the body of the call block that this is the call of.
Value Interpreter::EvalCall(const Expr& expr, const Value* caller) {
  const Expr& target = *expr.kids[0];
  Value callee;
  Value self;
  Builtin direct = nullptr;
  if (target.kind == ExprKind::kAttribute) {
    // The usual method call, without an object for the method in between.
    self = Eval(*target.kids[0]);
    const auto type = static_cast<size_t>(self.type());
    if (target.methods != nullptr && self.type() != Type::kNamespace &&
        !target.methods->unsafe[type]) {
      direct = target.methods->by_type[type];
    }
    rt_.line = target.line;
    if (direct == nullptr) callee = GetAttribute(rt_, self, target.value, target.methods);
  } else {
    callee = Eval(target);
  }
  CallArgs args = EvalArguments(expr);
  if (caller != nullptr) {
    static Str* const name = new Str(nullptr, "caller", false);
    for (const auto& [given, unused] : args.named) {
      if (Text(given) == name->text)
        rt_.FailType("got multiple values for keyword argument 'caller'");
    }
    args.named.emplace(args.named.begin() + static_cast<std::ptrdiff_t>(expr.named.size()),
                       Value(name), *caller);
  }
  return direct != nullptr ? direct(rt_, self, args) : Invoke(callee, args);
}

Value Interpreter::EvalFilter(const Expr& expr) {
  const Value operand = expr.kids[0] != nullptr ? Eval(*expr.kids[0]) : filter_input_;
  if (expr.function == nullptr) {
    rt_.line = expr.line;
    rt_.Fail(fmt::format("No filter named {} found.", QuoteText(Text(expr.value))));
  }
  CallArgs args = EvalArguments(expr);
  return expr.function(rt_, operand, args);
}

Value Interpreter::EvalTest(const Expr& expr) {
  const Value operand = Eval(*expr.kids[0]);
  if (expr.function == nullptr) {
    rt_.line = expr.line;
    rt_.Fail(fmt::format("No test named {} found.", QuoteText(Text(expr.value))));
  }
  if (expr.kids.size() == 1 && expr.named.empty() && expr.star == nullptr &&
      expr.star_star == nullptr) {
    CallArgs none;
    return expr.function(rt_, operand, none);
  }
  CallArgs args = EvalArguments(expr);
  return expr.function(rt_, operand, args);
}

Value Interpreter::Invoke(const Value& callee, CallArgs& args) {
  switch (callee.type()) {
    case Type::kFunction:
      return As<Function>(callee).call(rt_, callee, args);
    case Type::kMethod:
      return As<Method>(callee).call(rt_, As<Method>(callee).self, args);
    case Type::kMacro:
      return InvokeMacro(As<Macro>(callee), args);
    case Type::kLoop:
      return InvokeLoop(As<Loop>(callee), args);
    case Type::kJoiner: {
      Joiner& joiner = As<Joiner>(callee);
      if (joiner.used) return joiner.separator;
      joiner.used = true;
      return rt_.MakeStr({});
    }
    case Type::kUndefined:
      rt_.FailUndefined(callee);
    default:
      rt_.FailType(fmt::format("'{}' object is not callable", TypeName(callee)));
  }
}

Value Interpreter::InvokeLoop(Loop& loop, CallArgs& args) {
  if (args.positional.size() != 1 || !args.named.empty()) rt_.FailType("loop() takes one argument");
  if (!loop.stmt.recursive) {
    rt_.FailType("The loop must have the 'recursive' marker to be called recursively.");
  }
  const Value keep(&loop);
  return rt_.MakeStr(
      RunRecursive(loop.stmt, args.positional[0], loop.scope.get(), loop.depth0 + 1));
}

Value Interpreter::InvokeMacro(const Macro& macro, CallArgs& args) {
  const Runtime::Deeper deeper(rt_);
  const ActivationRef activation(new Activation(rt_, macro.def.slots, macro.scope.get()));
  BindParameters(macro, args, activation.get());
  const Within within(*this, activation.get());
  EnterFrame(macro.def.frame);
  for (const Parameter& parameter : macro.def.parameters) {
    Value& slot = activation.get()->variables[parameter.slot];
    if (!slot.is_missing()) continue;
    if (parameter.default_value != nullptr) {
      Value value = Eval(*parameter.default_value);
      activation.get()->variables[parameter.slot] = std::move(value);
    } else {
      slot = rt_.MakeHint("parameter " + QuoteText(Text(parameter.name)) + " was not provided");
    }
  }
  Captured captured(*this);
  Exec(macro.def.body);
  return rt_.MakeStr(captured.Take());
}

void Interpreter::BindParameters(const Macro& macro, CallArgs& args, Activation* activation) {
  const MacroDef& def = macro.def;
  Values& slots = activation->variables;
  const auto take = [&](std::string_view name) {
    const auto it = std::find_if(args.named.begin(), args.named.end(),
                                 [&](const auto& entry) { return Text(entry.first) == name; });
    if (it == args.named.end()) return Value();
    Value value = std::move(it->second);
    args.named.erase(it);
    return value;
  };
  const size_t given = std::min(args.positional.size(), def.parameters.size());
  bool found_caller = given == def.parameters.size() && def.explicit_caller;
  for (size_t i = 0; i < def.parameters.size(); ++i) {
    const std::string& name = Text(def.parameters[i].name);
    slots[def.parameters[i].slot] = i < given ? args.positional[i] : take(name);
    if (i >= given && name == "caller") found_caller = true;
  }
  if (def.takes_caller && !found_caller) {
    Value caller = take("caller");
    if (caller.is_missing() || caller.is_none()) caller = rt_.MakeHint("No caller defined");
    if (!def.explicit_caller) slots[def.caller_slot] = std::move(caller);
  }
  if (def.takes_kwargs) {
    Value kwargs(new Dict(&rt_));
    for (auto& [name, value] : args.named) As<Dict>(kwargs).Set(name, value);
    slots[def.kwargs_slot] = std::move(kwargs);
  } else if (!args.named.empty()) {
    rt_.FailType(fmt::format("macro {} takes no keyword argument {}", QuoteText(def.name),
                             QuoteText(Text(args.named[0].first))));
  }
  if (def.takes_varargs) {
    slots[def.varargs_slot] = rt_.MakeTuple(Values(
        args.positional.begin() + static_cast<std::ptrdiff_t>(given), args.positional.end()));
  } else if (args.positional.size() > def.parameters.size()) {
    rt_.FailType(fmt::format("macro {} takes not more than {} argument(s)", QuoteText(def.name),
                             def.parameters.size()));
  }
}

}  // namespace apr::jinja
