// Statements of the interpreter. See jinja_interpreter.h; expressions are in jinja_evaluate.cc.
#include "tokenizer/jinja_interpreter.h"

#include <fmt/format.h>

#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

// The items of a loop that pass its test, found one at a time.
struct FilteredIterator final : Iterator {
  FilteredIterator(Runtime* owner, Interpreter& in, const Stmt& for_stmt, Value items,
                   Activation* scope)
      : Iterator(owner, "generator", items),
        interpreter(in),
        stmt(for_stmt),
        source(std::move(items)),
        activation(new Activation(*owner, for_stmt.test_slots, scope)) {
    interpreter.Capture(activation.get());
  }

  bool Next(Runtime& rt, Value* out) override {
    const Runtime::Deeper deeper(rt);
    if (!entered) interpreter.EnterTest(stmt, activation.get());
    entered = true;
    while (NextItem(rt, source, out)) {
      if (interpreter.TestItem(stmt, activation.get(), out)) return true;
    }
    return false;
  }

  Interpreter& interpreter;
  const Stmt& stmt;
  Value source;
  ActivationRef activation;
  bool entered = false;
};

}  // namespace

Activation::Activation(Runtime& runtime, uint32_t slots, Activation* enclosing)
    : rt(runtime), outer(enclosing) {
  rt.Charge(sizeof(Activation) + slots * sizeof(Value));
  variables.resize(slots);
  if (outer != nullptr) ++outer->references;
}

Activation::~Activation() {
  rt.Release(sizeof(Activation) + variables.size() * sizeof(Value));
  if (outer != nullptr && --outer->references == 0) delete outer;
}

Loop::Loop(Runtime* owner, const Stmt& for_stmt, Activation* in, int level)
    : Object(Type::kLoop, owner, sizeof(Loop)), stmt(for_stmt), scope(in), depth0(level) {}

bool Loop::Advance(Runtime& rt, Value* item) {
  if (!after.is_missing()) {
    *item = std::move(after);
    after = Value();
  } else if (!NextItem(rt, iterator, item)) {
    return false;
  }
  ++index0;
  previous = std::move(current);
  current = *item;
  return true;
}

int64_t Loop::CountAll(Runtime& rt) {
  if (length >= 0) return length;
  length = Length(source);
  if (length >= 0) return length;
  const Value rest = rt.MakeList(Collect(rt, iterator));
  iterator = MakeIterator(rt, rest);
  length = Length(rest) + index0 + 1 + (after.is_missing() ? 0 : 1);
  return length;
}

const Value& Loop::PeekNext(Runtime& rt) {
  if (after.is_missing()) {
    Value next;
    if (NextItem(rt, iterator, &next)) after = std::move(next);
  }
  return after;
}

Interpreter::~Interpreter() {
  for (const ActivationRef& ref : captured_) {
    for (Value& value : ref.get()->variables) value = Value();
  }
}

void Interpreter::Capture(Activation* activation) {
  if (activation->captured) return;
  activation->captured = true;
  captured_.emplace_back(activation);
}

std::string Interpreter::Run() {
  const ActivationRef root(new Activation(rt_, program_.slots, nullptr));
  const Within within(*this, root.get());
  std::string text;
  out_ = &text;
  EnterFrame(program_.frame);
  Exec(program_.body);
  CheckJoined();
  out_ = nullptr;
  return text;
}

void Interpreter::Emit(std::string_view text) {
  rt_.StepBytes(text.size());
  written_ += text.size();
  if (written_ > rt_.limits().output_bytes) {
    rt_.FailLimit(fmt::format("more than {} MiB of output", rt_.limits().output_bytes >> 20));
  }
  out_->append(text);
}

void Interpreter::EmitValue(const Value& value) {
  if (value.is_str()) {
    Emit(Text(value));
  } else if (!value.is_undefined()) {
    Emit(ToStr(rt_, value));
  }
}

// What filter and call blocks give is joined to the text as it is, which only str can be. Jinja joins at the end: an error
// in between comes first.
void Interpreter::EmitStr(const Value& value) {
  if (value.is_str()) Emit(Text(value));
  else if (problem_.empty()) problem_ = fmt::format("expected str instance, {} found", TypeName(value));
}

void Interpreter::CheckJoined() {
  if (!problem_.empty()) rt_.FailType(std::exchange(problem_, {}));
}

Value& Interpreter::Variable(const VarRef& var) {
  Activation* activation = activation_;
  for (uint32_t i = 0; i < var.hops; ++i) activation = activation->outer;
  return activation->variables[var.slot];
}

void Interpreter::EnterFrame(const Frame& frame) {
  for (const Load& load : frame) {
    Value& slot = activation_->variables[load.slot];
    switch (load.action) {
      case Load::Action::kUndefined:
        slot = Value();
        break;
      case Load::Action::kResolve:
        slot = context_[load.context];
        break;
      case Load::Action::kAlias:
        slot = Value(Variable(load.source));
        break;
    }
  }
}

void Interpreter::LeaveFrame(const Frame& frame) {
  for (const Load& load : frame) activation_->variables[load.slot] = Value();
}

Interpreter::Flow Interpreter::Exec(const Block& block) {
  const Runtime::Deeper deeper(rt_);
  for (const StmtPtr& stmt : block) {
    const Flow flow = ExecStmt(*stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecStmt(const Stmt& stmt) {
  rt_.line = stmt.line;
  rt_.Step();
  switch (stmt.kind) {
    case StmtKind::kText:
      Emit(stmt.text);
      break;
    case StmtKind::kPrint:
      EmitValue(Eval(*stmt.expr));
      break;
    case StmtKind::kFor:
      return ExecFor(stmt);
    case StmtKind::kIf:
      return ExecIf(stmt);
    case StmtKind::kSet:
      ExecSet(stmt);
      break;
    case StmtKind::kFilterBlock:
    case StmtKind::kSetBlock:
    case StmtKind::kWith:
      return ExecScoped(stmt);
    case StmtKind::kMacro: {
      Capture(activation_);
      Variable(stmt.var) = Value(new Macro(&rt_, *stmt.macro, activation_));
      break;
    }
    case StmtKind::kCallBlock:
      ExecCallBlock(stmt);
      break;
    case StmtKind::kGeneration: {
      Capture(activation_);
      const Value body(new Macro(&rt_, *stmt.macro, activation_));
      CallArgs none;
      EmitValue(InvokeMacro(As<Macro>(body), none));
      break;
    }
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecIf(const Stmt& stmt) {
  for (const Branch& branch : stmt.branches) {
    if (Truthy(Eval(*branch.condition))) return Exec(branch.body);
  }
  return stmt.else_body.empty() ? Flow::kNext : Exec(stmt.else_body);
}

Interpreter::Flow Interpreter::ExecFor(const Stmt& stmt) {
  const Value iterable = Eval(*stmt.expr);
  if (!stmt.recursive) return RunLoop(stmt, iterable, activation_, 0);
  const std::string text = RunRecursive(stmt, iterable, activation_, 0);
  Emit(text);
  return Flow::kNext;
}

std::string Interpreter::RunRecursive(const Stmt& stmt, const Value& iterable, Activation* scope,
                                      int depth) {
  const Runtime::Deeper deeper(rt_);
  const ActivationRef own(new Activation(rt_, stmt.loop_slots, scope));
  const Within within(*this, own.get());
  Captured captured(*this);
  RunLoop(stmt, iterable, scope, depth);
  return captured.Take();
}

// Runs the body for every item. `scope` is the activation that the for block stands in.
Interpreter::Flow Interpreter::RunLoop(const Stmt& stmt, const Value& iterable, Activation* scope,
                                       int depth) {
  Value source = iterable;
  if (stmt.test != nullptr) {
    source = Value(new FilteredIterator(&rt_, *this, stmt, MakeIterator(rt_, iterable), scope));
  }
  Value loop_value;
  Loop* loop = nullptr;
  if (stmt.uses_loop) {
    if (stmt.recursive) Capture(scope);
    loop = new Loop(&rt_, stmt, stmt.recursive ? scope : nullptr, depth);
    loop_value = Value(loop);
    loop->source = source;
    activation_->variables[stmt.loop_slot] = loop_value;
  }
  const Value iterator = MakeIterator(rt_, source);
  if (loop != nullptr) loop->iterator = iterator;
  Value item;
  bool completed = false;  // some item's body ran to its end
  while (loop != nullptr ? loop->Advance(rt_, &item) : NextItem(rt_, iterator, &item)) {
    if (loop != nullptr) activation_->variables[stmt.loop_slot] = loop_value;
    Assign(*stmt.target, item);
    EnterFrame(stmt.frame);
    const Flow flow = Exec(stmt.body);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNext) completed = true;
  }
  LeaveFrame(stmt.frame);
  if (loop != nullptr) {
    activation_->variables[stmt.loop_slot] = Value();
    loop->changed.clear();
  }
  if (completed || stmt.else_body.empty()) return Flow::kNext;
  EnterFrame(stmt.else_frame);
  const Flow flow = Exec(stmt.else_body);
  LeaveFrame(stmt.else_frame);
  return flow;
}

void Interpreter::EnterTest(const Stmt& stmt, Activation* activation) {
  const Within within(*this, activation);
  EnterFrame(stmt.test_frame);
}

bool Interpreter::TestItem(const Stmt& stmt, Activation* activation, Value* item) {
  const Within within(*this, activation);
  Assign(*stmt.test_target, *item);
  if (!Truthy(Eval(*stmt.test))) return false;
  *item = Gathered(*stmt.test_target);
  return true;
}

// The item as Jinja's generator hands it on: what the names of the target hold, several as a tuple.
Value Interpreter::Gathered(const Expr& target) {
  if (target.kind == ExprKind::kName) return Variable(target.var);
  Values items;
  for (const ExprPtr& kid : target.kids) items.push_back(Gathered(*kid));
  return rt_.MakeTuple(std::move(items));
}

// filter, set and with blocks: names of their own inside the current function.
Interpreter::Flow Interpreter::ExecScoped(const Stmt& stmt) {
  EnterFrame(stmt.frame);
  for (const auto& [target, value] : stmt.assignments) Assign(*target, Eval(*value));
  if (stmt.kind == StmtKind::kWith) {
    const Flow flow = Exec(stmt.body);
    LeaveFrame(stmt.frame);
    return flow;
  }
  Value text;
  {
    Captured captured(*this);
    const Flow flow = Exec(stmt.body);
    if (flow != Flow::kNext) return flow;
    text = rt_.MakeStr(captured.Take());
  }
  if (stmt.expr != nullptr) {
    std::swap(filter_input_, text);
    Value filtered = Eval(*stmt.expr);
    std::swap(filter_input_, text);
    text = std::move(filtered);
  }
  if (stmt.kind == StmtKind::kSetBlock) {
    CheckNamespaces(*stmt.target);
    Assign(*stmt.target, text);
  } else {
    EmitStr(text);
  }
  LeaveFrame(stmt.frame);
  return Flow::kNext;
}

void Interpreter::ExecSet(const Stmt& stmt) {
  CheckNamespaces(*stmt.target);
  Assign(*stmt.target, Eval(*stmt.expr));
}

void Interpreter::ExecCallBlock(const Stmt& stmt) {
  Capture(activation_);
  const Value caller(new Macro(&rt_, *stmt.macro, activation_));
  EmitStr(EvalCall(*stmt.expr, &caller));
}

void Interpreter::CheckNamespaces(const Expr& target) {
  if (target.kind == ExprKind::kTuple) {
    for (const ExprPtr& kid : target.kids) CheckNamespaces(*kid);
  } else if (target.kind == ExprKind::kNamespaceAttribute &&
             Variable(target.var).type() != Type::kNamespace) {
    rt_.Fail("cannot assign attribute on non-namespace object");
  }
}

void Interpreter::Assign(const Expr& target, const Value& value) {
  switch (target.kind) {
    case ExprKind::kName:
      Variable(target.var) = value;
      break;
    case ExprKind::kNamespaceAttribute: {
      const Value& name = target.named[0].first;
      if (Text(name).starts_with('_')) {
        rt_.Fail(
            "Chat templates cannot store underscore-prefixed attributes on a namespace, but got " +
            QuoteText(Text(name)));
      }
      const Value space = Variable(target.var);
      if (space.type() != Type::kNamespace)
        rt_.Fail("cannot assign attribute on non-namespace object");
      As<Namespace>(space).dict().Set(name, value);
      break;
    }
    default:
      Unpack(target, value);
  }
}

void Interpreter::Unpack(const Expr& target, const Value& value) {
  if (!IsIterable(value))
    rt_.FailType(fmt::format("cannot unpack non-iterable {} object", TypeName(value)));
  const Value iterator = MakeIterator(rt_, value);
  Values items;
  Value item;
  const size_t wanted = target.kids.size();
  while (items.size() <= wanted && NextItem(rt_, iterator, &item)) items.push_back(std::move(item));
  if (items.size() > wanted)
    rt_.FailValue(fmt::format("too many values to unpack (expected {})", wanted));
  if (items.size() < wanted) {
    rt_.FailValue(
        fmt::format("not enough values to unpack (expected {}, got {})", wanted, items.size()));
  }
  for (size_t i = 0; i < wanted; ++i) Assign(*target.kids[i], items[i]);
}

}  // namespace apr::jinja
