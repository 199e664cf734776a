// Binds every name of a template to a variable slot, and filters and tests to their functions.
//
// jinja2 compiles a template to Python functions and decides at compile time, per block, which
// variable a name means: a name that is set anywhere in a block belongs to that block, from its
// first line on; if blocks share the scope around them; other blocks start with a copy of the outer
// value. The same analysis is done here, so that the corners come out the same.
// Source: pallets/jinja src/jinja2/idtracking.py and compiler.py.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_builtin.h"
#include "tokenizer/jinja_method.h"

namespace apr::jinja {
namespace {

constexpr int64_t kMaxWork = 20'000'000;  // of the analysis, which can grow faster than the text

// What becomes one Python function: the template, a macro, a recursive loop, the test of a loop.
struct FunctionScope {
  explicit FunctionScope(FunctionScope* enclosing) : outer(enclosing) {}
  uint32_t Slot(int level, std::string_view name) {
    const auto [it, added] = slots.try_emplace({level, name}, static_cast<uint32_t>(slots.size()));
    return it->second;
  }
  FunctionScope* outer;
  std::map<std::pair<int, std::string_view>, uint32_t> slots;
};

struct Location {
  FunctionScope* function;
  uint32_t slot;
};

// The names of one block.
struct Symbols {
  enum class Origin : uint8_t { kParameter, kUndefined, kResolve, kAlias };
  struct Entry {
    Origin origin;
    Location alias{};  // kAlias
  };

  Symbols(Symbols* outer, FunctionScope* in, Stmt* loop = nullptr)
      : parent(outer),
        function(in),
        level(outer == nullptr ? 0 : outer->level + 1),
        loop_stmt(loop) {}

  const Symbols* Owner(std::string_view name) const {
    for (const Symbols* s = this; s != nullptr; s = s->parent) {
      if (s->entries.contains(name)) return s;
    }
    return nullptr;
  }
  std::optional<Location> Find(std::string_view name) const {
    const Symbols* owner = Owner(name);
    if (owner == nullptr) return std::nullopt;
    return Location{owner->function, owner->function->Slot(owner->level, name)};
  }
  void Load(std::string_view name) {
    if (Owner(name) == nullptr) entries[name] = {Origin::kResolve};
  }
  void Store(std::string_view name) {
    stores.insert(name);
    if (entries.contains(name)) return;
    const auto outer = parent == nullptr ? std::nullopt : parent->Find(name);
    entries[name] = outer ? Entry{Origin::kAlias, *outer} : Entry{Origin::kUndefined};
  }
  uint32_t Declare(std::string_view name) {
    stores.insert(name);
    entries[name] = {Origin::kParameter};
    return function->Slot(level, name);
  }
  // Joins what the branches of an if did to copies of these symbols.
  void Join(const std::vector<Symbols>& branches) {
    std::set<std::string_view> stored;
    for (const Symbols& branch : branches)
      stored.insert(branch.stores.begin(), branch.stores.end());
    for (const std::string_view name : stores) stored.erase(name);
    for (const Symbols& branch : branches) {
      for (const auto& [name, entry] : branch.entries) entries[name] = entry;
      stores.insert(branch.stores.begin(), branch.stores.end());
    }
    for (const std::string_view name : stored) {
      const auto outer = parent == nullptr ? std::nullopt : parent->Find(name);
      entries[name] = outer ? Entry{Origin::kAlias, *outer} : Entry{Origin::kResolve};
    }
  }

  Symbols* parent;
  FunctionScope* function;
  int level;
  Stmt* loop_stmt;  // set for the body of a loop
  std::map<std::string_view, Entry> entries;
  std::set<std::string_view> stores;
};

// Where the resolver stands: what may be said there.
struct Place {
  bool in_loop = false;  // break and continue have a loop in this function
  int loops = 0;         // loops around, also beyond functions: "loop" must not be set
  bool soft = false;     // unknown filters are errors only when they are reached
};

class Resolver {
 public:
  explicit Resolver(Program* program) : program_(*program) {}

  void Run() {
    FunctionScope function(nullptr);
    Symbols symbols(nullptr, &function);
    for (const StmtPtr& stmt : program_.body) Visit(&symbols, *stmt);
    Bind(program_.body, &symbols, {});
    program_.frame = EmitFrame(symbols);
    program_.slots = static_cast<uint32_t>(function.slots.size());
  }

 private:
  [[noreturn]] static void Fail(const std::string& message, uint32_t line) {
    throw TemplateError(TemplateErrorKind::kSyntax, message, line);
  }
  void Work(size_t count = 1) {
    if ((work_ -= static_cast<int64_t>(count)) < 0) Fail("template too complex", 1);
  }

  // First pass over a block: which names it loads and stores.
  void Visit(Symbols* s, const Expr& expr);
  void VisitTarget(Symbols* s, const Expr& target, bool parameter);
  void Visit(Symbols* s, const Stmt& stmt);
  void VisitIf(Symbols* s, const Stmt& stmt);
  void VisitBranch(Symbols* s, const Branch& branch);
  void VisitAll(Symbols* s, const Block& block) {
    for (const StmtPtr& stmt : block) Visit(s, *stmt);
  }

  // Second pass: sets slots.
  void Bind(Block& block, Symbols* s, Place place) {
    for (StmtPtr& stmt : block) BindStmt(*stmt, s, place);
  }
  void BindStmt(Stmt& stmt, Symbols* s, Place place);
  void BindFor(Stmt& stmt, Symbols* s, Place place);
  void BindMacro(MacroDef& macro, uint32_t line, Symbols* s, Place place);
  void BindScoped(Stmt& stmt, Symbols* s, Place place);
  void BindExpr(Expr& expr, Symbols* s, bool soft);
  void BindTarget(Expr& target, Symbols* s, const Place& place);
  VarRef Ref(Symbols* s, std::string_view name);
  static uint32_t Hops(const FunctionScope* from, const FunctionScope* to);
  Frame EmitFrame(const Symbols& s);
  uint32_t ContextIndex(std::string_view name);

  // Which of `names` the body loads before it makes them its own.
  struct Search {
    std::set<std::string_view> names, found;
  };
  void Look(Search* search, const Expr* expr, bool store = false);
  void Look(Search* search, const Block& block);
  void Look(Search* search, const Stmt& stmt);
  void LookMacro(Search* search, const MacroDef& macro);

  Program& program_;
  std::map<std::string, uint32_t, std::less<>> context_;
  int64_t work_ = kMaxWork;
};

void Resolver::Visit(Symbols* s, const Expr& expr) {
  Work();
  if (expr.kind == ExprKind::kName) s->Load(Text(expr.value));
  for (const ExprPtr& kid : expr.kids) {
    if (kid != nullptr) Visit(s, *kid);
  }
  for (const auto& [name, value] : expr.named) {
    if (value != nullptr) Visit(s, *value);
  }
  if (expr.star != nullptr) Visit(s, *expr.star);
  if (expr.star_star != nullptr) Visit(s, *expr.star_star);
}

void Resolver::VisitTarget(Symbols* s, const Expr& target, bool parameter) {
  Work();
  switch (target.kind) {
    case ExprKind::kName:
      if (parameter) {
        s->Declare(Text(target.value));
      } else {
        s->Store(Text(target.value));
      }
      break;
    case ExprKind::kNamespaceAttribute:
      s->Load(Text(target.value));
      break;
    default:
      for (const ExprPtr& kid : target.kids) VisitTarget(s, *kid, parameter);
  }
}

void Resolver::VisitBranch(Symbols* s, const Branch& branch) {
  Visit(s, *branch.condition);
  std::vector<Symbols> copies(1, *s);
  Work(s->entries.size());
  VisitAll(&copies[0], branch.body);
  s->Join(copies);
}

void Resolver::VisitIf(Symbols* s, const Stmt& stmt) {
  Visit(s, *stmt.branches[0].condition);
  std::vector<Symbols> copies(3, *s);
  Work(3 * s->entries.size());
  VisitAll(&copies[0], stmt.branches[0].body);
  for (size_t i = 1; i < stmt.branches.size(); ++i) VisitBranch(&copies[1], stmt.branches[i]);
  VisitAll(&copies[2], stmt.else_body);
  s->Join(copies);
}

void Resolver::Visit(Symbols* s, const Stmt& stmt) {
  Work();
  switch (stmt.kind) {
    case StmtKind::kText:
    case StmtKind::kBreak:
    case StmtKind::kContinue:
    case StmtKind::kGeneration:
      break;
    case StmtKind::kPrint:
    case StmtKind::kFor:
    case StmtKind::kCallBlock:
    case StmtKind::kFilterBlock:
      Visit(s, *stmt.expr);
      break;
    case StmtKind::kIf:
      VisitIf(s, stmt);
      break;
    case StmtKind::kMacro:
      s->Store(stmt.macro->name);
      break;
    case StmtKind::kSet:
      Visit(s, *stmt.expr);
      VisitTarget(s, *stmt.target, false);
      break;
    case StmtKind::kSetBlock:
      VisitTarget(s, *stmt.target, false);
      break;
    case StmtKind::kWith:
      for (const auto& [target, value] : stmt.assignments) Visit(s, *value);
      break;
  }
}

uint32_t Resolver::Hops(const FunctionScope* from, const FunctionScope* to) {
  uint32_t hops = 0;
  for (; from != to; from = from->outer) ++hops;
  return hops;
}

VarRef Resolver::Ref(Symbols* s, std::string_view name) {
  s->Load(name);  // names that the first pass does not meet: arguments of a set block's filter
  const Symbols* owner = s->Owner(name);
  if (name == "loop" && owner->loop_stmt != nullptr) owner->loop_stmt->uses_loop = true;
  return {Hops(s->function, owner->function), owner->function->Slot(owner->level, name)};
}

uint32_t Resolver::ContextIndex(std::string_view name) {
  const auto it = context_.find(name);
  if (it != context_.end()) return it->second;
  const auto index = static_cast<uint32_t>(program_.context_names.size());
  program_.context_names.emplace_back(name);
  context_.emplace(name, index);
  return index;
}

Frame Resolver::EmitFrame(const Symbols& s) {
  Frame frame;
  for (const auto& [name, entry] : s.entries) {
    Load load;
    load.slot = s.function->Slot(s.level, name);
    switch (entry.origin) {
      case Symbols::Origin::kParameter:
        continue;
      case Symbols::Origin::kUndefined:
        load.action = Load::Action::kUndefined;
        break;
      case Symbols::Origin::kResolve:
        load.action = Load::Action::kResolve;
        load.context = ContextIndex(name);
        break;
      case Symbols::Origin::kAlias:
        load.action = Load::Action::kAlias;
        load.source = {Hops(s.function, entry.alias.function), entry.alias.slot};
        break;
    }
    frame.push_back(load);
  }
  return frame;
}

void Resolver::BindTarget(Expr& target, Symbols* s, const Place& place) {
  if (target.kind == ExprKind::kTuple) {
    for (ExprPtr& kid : target.kids) BindTarget(*kid, s, place);
    return;
  }
  const std::string_view name = Text(target.value);
  if (target.kind == ExprKind::kName && name == "loop" && place.loops > 0) {
    Fail("Can't assign to special loop variable in for-loop target", target.line);
  }
  target.var = Ref(s, name);
}

void Resolver::BindExpr(Expr& expr, Symbols* s, bool soft) {
  Work();
  switch (expr.kind) {
    case ExprKind::kName:
      expr.var = Ref(s, Text(expr.value));
      break;
    case ExprKind::kAttribute:
      expr.methods = FindMethods(Text(expr.value));
      break;
    case ExprKind::kConditional:
      soft = true;
      break;
    case ExprKind::kFilter:
    case ExprKind::kTest: {
      const bool filter = expr.kind == ExprKind::kFilter;
      expr.function = filter ? FindFilter(Text(expr.value)) : FindTest(Text(expr.value));
      if (expr.function == nullptr && !soft) {
        Fail(fmt::format("No {} named '{}'.", filter ? "filter" : "test", Text(expr.value)),
             expr.line);
      }
      break;
    }
    default:
      break;
  }
  for (ExprPtr& kid : expr.kids) {
    if (kid != nullptr) BindExpr(*kid, s, soft);
  }
  for (auto& [name, value] : expr.named) {
    if (value != nullptr) BindExpr(*value, s, soft);
  }
  if (expr.star != nullptr) BindExpr(*expr.star, s, soft);
  if (expr.star_star != nullptr) BindExpr(*expr.star_star, s, soft);
}

void Resolver::BindStmt(Stmt& stmt, Symbols* s, Place place) {
  switch (stmt.kind) {
    case StmtKind::kText:
      break;
    case StmtKind::kPrint:
      BindExpr(*stmt.expr, s, place.soft);
      break;
    case StmtKind::kFor:
      BindFor(stmt, s, place);
      break;
    case StmtKind::kIf: {
      Place inner = place;
      inner.soft = true;
      for (Branch& branch : stmt.branches) {
        BindExpr(*branch.condition, s, true);
        Bind(branch.body, s, inner);
      }
      Bind(stmt.else_body, s, inner);
      break;
    }
    case StmtKind::kMacro:
      BindMacro(*stmt.macro, stmt.line, s, place);
      if (stmt.macro->name == "loop" && place.loops > 0)
        Fail("Can't assign to special loop variable", stmt.line);
      stmt.var = Ref(s, stmt.macro->name);
      break;
    case StmtKind::kCallBlock:
      BindExpr(*stmt.expr, s, place.soft);
      [[fallthrough]];
    case StmtKind::kGeneration:
      BindMacro(*stmt.macro, stmt.line, s, place);
      break;
    case StmtKind::kSet:
      BindTarget(*stmt.target, s, place);
      BindExpr(*stmt.expr, s, place.soft);
      break;
    case StmtKind::kFilterBlock:
    case StmtKind::kSetBlock:
    case StmtKind::kWith:
      BindScoped(stmt, s, place);
      break;
    case StmtKind::kBreak:
    case StmtKind::kContinue:
      if (!place.in_loop) {
        Fail(stmt.kind == StmtKind::kBreak ? "'break' outside loop"
                                           : "'continue' not properly in loop",
             stmt.line);
      }
      break;
  }
}

// Blocks with names of their own inside the current function.
void Resolver::BindScoped(Stmt& stmt, Symbols* s, Place place) {
  Symbols inner(s, s->function);
  for (auto& [target, value] : stmt.assignments) {
    BindExpr(*value, s, place.soft);
    VisitTarget(&inner, *target, true);
  }
  VisitAll(&inner, stmt.body);
  if (stmt.kind == StmtKind::kFilterBlock) Visit(&inner, *stmt.expr);
  Place within = place;
  within.soft = false;
  for (auto& [target, value] : stmt.assignments) BindTarget(*target, &inner, within);
  if (stmt.expr != nullptr) BindExpr(*stmt.expr, &inner, false);
  Bind(stmt.body, &inner, within);
  if (stmt.kind == StmtKind::kSetBlock) BindTarget(*stmt.target, s, place);
  stmt.frame = EmitFrame(inner);
}

void Resolver::BindFor(Stmt& stmt, Symbols* s, Place place) {
  BindExpr(*stmt.expr, s, place.soft);
  Place inside = place;
  inside.in_loop = true;
  inside.soft = false;
  ++inside.loops;
  if (stmt.test != nullptr) {
    FunctionScope function(s->function);
    Symbols symbols(s, &function);
    VisitTarget(&symbols, *stmt.test_target, true);
    Visit(&symbols, *stmt.test);
    BindTarget(*stmt.test_target, &symbols, inside);
    BindExpr(*stmt.test, &symbols, false);
    stmt.test_frame = EmitFrame(symbols);
    stmt.test_slots = static_cast<uint32_t>(function.slots.size());
  }
  FunctionScope own(s->function);
  FunctionScope* function = stmt.recursive ? &own : s->function;
  Symbols body(s, function, &stmt);
  stmt.loop_slot = body.Declare("loop");
  VisitTarget(&body, *stmt.target, true);
  VisitAll(&body, stmt.body);
  BindTarget(*stmt.target, &body, inside);
  Bind(stmt.body, &body, inside);
  stmt.frame = EmitFrame(body);
  Symbols otherwise(s, function);
  VisitAll(&otherwise, stmt.else_body);
  Place after = place;
  after.soft = false;
  ++after.loops;
  if (stmt.recursive) after.in_loop = false;
  Bind(stmt.else_body, &otherwise, after);
  stmt.else_frame = EmitFrame(otherwise);
  stmt.loop_slots = static_cast<uint32_t>(own.slots.size());
}

void Resolver::BindMacro(MacroDef& macro, uint32_t line, Symbols* s, Place place) {
  FunctionScope function(s->function);
  Symbols symbols(s, &function);
  const auto visit = [&] {
    for (Parameter& parameter : macro.parameters)
      parameter.slot = symbols.Declare(Text(parameter.name));
    for (const Parameter& parameter : macro.parameters) {
      if (parameter.default_value != nullptr) Visit(&symbols, *parameter.default_value);
    }
    VisitAll(&symbols, macro.body);
  };
  visit();
  Search search{{"caller", "kwargs", "varargs"}, {}};
  Look(&search, macro.body);
  const auto declared = [&](std::string_view name) {
    return std::any_of(macro.parameters.begin(), macro.parameters.end(),
                       [&](const Parameter& p) { return Text(p.name) == name; });
  };
  macro.explicit_caller = declared("caller");
  if (search.found.contains("caller")) {
    macro.takes_caller = true;
    for (const Parameter& p : macro.parameters) {
      if (Text(p.name) == "caller" && p.default_value == nullptr) {
        Fail("the special 'caller' argument must be omitted or be given a default", line);
      }
    }
    if (!macro.explicit_caller) macro.caller_slot = symbols.Declare("caller");
  }
  if (search.found.contains("kwargs") && !declared("kwargs")) {
    macro.takes_kwargs = true;
    macro.kwargs_slot = symbols.Declare("kwargs");
  }
  if (search.found.contains("varargs") && !declared("varargs")) {
    macro.takes_varargs = true;
    macro.varargs_slot = symbols.Declare("varargs");
  }
  visit();
  for (Parameter& parameter : macro.parameters) {
    if (parameter.default_value != nullptr) BindExpr(*parameter.default_value, &symbols, false);
  }
  Place inside;
  inside.loops = place.loops;
  Bind(macro.body, &symbols, inside);
  macro.frame = EmitFrame(symbols);
  macro.slots = static_cast<uint32_t>(function.slots.size());
}

void Resolver::Look(Search* search, const Expr* expr, bool store) {
  if (expr == nullptr) return;
  Work();
  if (expr->kind == ExprKind::kName) {
    const std::string_view name = Text(expr->value);
    if (!store && search->names.contains(name)) {
      search->found.insert(name);
    } else {
      search->names.erase(name);
    }
  }
  for (const ExprPtr& kid : expr->kids) Look(search, kid.get(), store);
  for (const auto& [name, value] : expr->named) Look(search, value.get());
  Look(search, expr->star.get());
  Look(search, expr->star_star.get());
}

void Resolver::Look(Search* search, const Block& block) {
  for (const StmtPtr& stmt : block) Look(search, *stmt);
}

void Resolver::LookMacro(Search* search, const MacroDef& macro) {
  for (const Parameter& p : macro.parameters) search->names.erase(Text(p.name));
  for (const Parameter& p : macro.parameters) Look(search, p.default_value.get());
  Look(search, macro.body);
}

void Resolver::Look(Search* search, const Stmt& stmt) {
  Work();
  Look(search, stmt.target.get(), true);
  if (stmt.kind != StmtKind::kFilterBlock) Look(search, stmt.expr.get());
  for (const auto& [target, value] : stmt.assignments) Look(search, target.get(), true);
  for (const auto& [target, value] : stmt.assignments) Look(search, value.get());
  for (const Branch& branch : stmt.branches) {
    Look(search, branch.condition.get());
    Look(search, branch.body);
  }
  Look(search, stmt.body);
  Look(search, stmt.else_body);
  Look(search, stmt.test.get());
  if (stmt.kind == StmtKind::kFilterBlock) Look(search, stmt.expr.get());
  if (stmt.macro != nullptr) LookMacro(search, *stmt.macro);
}

}  // namespace

void Resolve(Program* program) { Resolver(program).Run(); }

}  // namespace apr::jinja
