// The parsed template: statements and expressions with names resolved to slots. Immutable once
// jinja_resolver.cc is done with it; shared by all renderings.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace apr::jinja {

enum class ExprKind : uint8_t {
  kConst,
  kName,
  kNamespaceAttribute,  // ns.x as the target of an assignment
  kTuple,
  kList,
  kDict,    // kids: key, value, key, value, ...
  kBinary,  // kids: left, right
  kAnd,
  kOr,
  kNot,
  kNegate,
  kPlus,
  kCompare,  // kids: first, then one per entry of ops
  kConcat,
  kAttribute,    // kids: object; value: the name
  kItem,         // kids: object, index or kSlice
  kSlice,        // kids: start, stop, step, each may be null
  kCall,         // kids: callee, positional arguments
  kFilter,       // kids: operand (null in a filter block), positional arguments; value: the name
  kTest,         // likewise
  kConditional,  // kids: condition, then, else (may be null)
};

enum class Op : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kNotIn,
};

// A variable: a slot of the function that is `hops` functions outward.
struct VarRef {
  uint32_t hops = 0;
  uint32_t slot = 0;
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct MethodRow;  // jinja_method.h: the methods of one name, by type

struct Expr {
  ExprKind kind = ExprKind::kConst;
  Op op = Op::kAdd;
  uint16_t depth = 1;  // levels of the tree below and with this node
  uint32_t line = 1;
  Value value;
  VarRef var;
  std::vector<ExprPtr> kids;
  std::vector<Op> ops;
  std::vector<std::pair<Value, ExprPtr>> named;  // keyword arguments
  ExprPtr star, star_star;                       // *args, **kwargs
  const MethodRow* methods = nullptr;            // kAttribute: what the name means as a method
  Builtin function = nullptr;  // kFilter, kTest; null: unknown, an error when it is evaluated
};

// What happens to a variable when the block that owns it is entered.
struct Load {
  enum class Action : uint8_t { kUndefined, kResolve, kAlias };
  Action action;
  uint32_t slot;         // in the current function
  uint32_t context = 0;  // kResolve: index of the variable among the context's
  VarRef source;         // kAlias
};
using Frame = std::vector<Load>;

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

struct Parameter {
  Value name;
  uint32_t slot = 0;
  ExprPtr default_value;  // may be null
};

// A macro, or the body of a call block.
struct MacroDef {
  std::string name;  // empty: anonymous
  std::vector<Parameter> parameters;
  bool takes_caller = false, takes_kwargs = false, takes_varargs = false;
  bool explicit_caller = false;  // "caller" is among the parameters
  uint32_t caller_slot = 0, kwargs_slot = 0, varargs_slot = 0;
  uint32_t slots = 0;
  Frame frame;
  Block body;
};

enum class StmtKind : uint8_t {
  kText,
  kPrint,
  kFor,
  kIf,
  kMacro,
  kCallBlock,
  kGeneration,
  kFilterBlock,
  kSet,
  kSetBlock,
  kWith,
  kBreak,
  kContinue,
};

struct Branch {
  ExprPtr condition;
  Block body;
};

struct Stmt {
  StmtKind kind = StmtKind::kText;
  uint32_t line = 1;
  std::string text;
  ExprPtr target;  // kFor, kSet, kSetBlock
  ExprPtr expr;    // printed, iterated, assigned, called; filter chain of kFilterBlock, kSetBlock
  Block body;
  Frame frame;  // of body
  // kIf
  std::vector<Branch> branches;
  Block else_body;  // kIf, kFor
  // kFor
  Frame else_frame;
  ExprPtr test;  // "for x in y if test"
  Frame test_frame;
  ExprPtr test_target;      // the target again, in the function of the test
  uint32_t test_slots = 0;  // of the test's own function
  bool recursive = false;
  uint32_t loop_slots = 0;  // recursive: of the loop's own function
  bool uses_loop = false;
  uint32_t loop_slot = 0;
  // kWith
  std::vector<std::pair<ExprPtr, ExprPtr>> assignments;
  // kMacro, kCallBlock, kGeneration
  std::unique_ptr<MacroDef> macro;
  VarRef var;  // kMacro: where it is bound
};

struct Program {
  std::vector<std::unique_ptr<Object>> constants;  // first, to outlive what refers to them
  Block body;
  Frame frame;
  uint32_t slots = 0;
  std::vector<std::string> context_names;  // variables that come from outside

  // A string that lives as long as the program.
  Value Constant(std::string text) {
    constants.push_back(std::make_unique<Str>(nullptr, std::move(text), false));
    return Value(constants.back().get());
  }
};

// Parses and resolves. Throws TemplateError(kSyntax).
Program ParseProgram(std::string_view source);

// Second half of ParseProgram: binds names to slots, filters and tests to functions.
void Resolve(Program* program);

}  // namespace apr::jinja
