// Walks a parsed template and writes its text. One object per rendering.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_loop.h"
#include "tokenizer/jinja_runtime.h"

namespace apr::jinja {

class Interpreter {
 public:
  // `context`: the value of each of program.context_names, missing where undefined. All borrowed.
  Interpreter(Runtime& rt, const Program& program, const Values& context)
      : rt_(rt), program_(program), context_(context) {}
  ~Interpreter();

  std::string Run();

  // For the iterator of a loop with a test: evaluates it for `item` in `activation`.
  // Puts in place of an item that passes what the loop gets.
  bool TestItem(const Stmt& stmt, Activation* activation, Value* item);
  void EnterTest(const Stmt& stmt, Activation* activation);
  // Lists an activation that something keeps, so that its variables are dropped at the end.
  void Capture(Activation* activation);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // Replaces the current activation for a scope.
  class Within {
   public:
    Within(Interpreter& in, Activation* activation) : in_(in), saved_(in.activation_) {
      in.activation_ = activation;
    }
    ~Within() { in_.activation_ = saved_; }
    Within(const Within&) = delete;
    Within& operator=(const Within&) = delete;

   private:
    Interpreter& in_;
    Activation* saved_;
  };
  // Collects output apart for a scope.
  class Captured {
   public:
    explicit Captured(Interpreter& in) : in_(in), saved_(in.out_), saved_problem_(std::exchange(in.problem_, {})) { in.out_ = &text; }
    ~Captured() {
      in_.out_ = saved_;
      in_.problem_ = std::move(saved_problem_);
      in_.written_ -= text.size();
    }
    Captured(const Captured&) = delete;
    Captured& operator=(const Captured&) = delete;
    std::string Take() {
      in_.CheckJoined();
      in_.written_ -= text.size();
      return std::exchange(text, {});
    }
    std::string text;

   private:
    Interpreter& in_;
    std::string* saved_;
    std::string saved_problem_;
  };

  void Emit(std::string_view text);
  void EmitValue(const Value& value);
  void EmitStr(const Value& value);
  void CheckJoined();
  Value Gathered(const Expr& target);

  Flow Exec(const Block& block);
  Flow ExecStmt(const Stmt& stmt);
  Flow ExecIf(const Stmt& stmt);
  Flow ExecFor(const Stmt& stmt);
  Flow RunLoop(const Stmt& stmt, const Value& iterable, Activation* scope, int depth);
  std::string RunRecursive(const Stmt& stmt, const Value& iterable, Activation* scope, int depth);
  Flow ExecScoped(const Stmt& stmt);
  void ExecSet(const Stmt& stmt);
  void ExecCallBlock(const Stmt& stmt);
  void EnterFrame(const Frame& frame);
  void LeaveFrame(const Frame& frame);
  void CheckNamespaces(const Expr& target);
  void Assign(const Expr& target, const Value& value);
  void Unpack(const Expr& target, const Value& value);
  Value& Variable(const VarRef& var);

  Value Eval(const Expr& expr);
  Value EvalNode(const Expr& expr);
  Value EvalName(const Expr& expr);
  Value EvalCollection(const Expr& expr);
  Value EvalCompare(const Expr& expr);
  Value EvalConcat(const Expr& expr);
  Value EvalItem(const Expr& expr);
  Value EvalCall(const Expr& expr, const Value* caller = nullptr);
  Value EvalFilter(const Expr& expr);
  Value EvalTest(const Expr& expr);
  Value EvalConditional(const Expr& expr);
  CallArgs EvalArguments(const Expr& expr);

  Value Invoke(const Value& callee, CallArgs& args);
  Value InvokeMacro(const Macro& macro, CallArgs& args);
  void BindParameters(const Macro& macro, CallArgs& args, Activation* activation);
  Value InvokeLoop(Loop& loop, CallArgs& args);

  Runtime& rt_;
  const Program& program_;
  const Values& context_;
  Activation* activation_ = nullptr;
  std::string* out_ = nullptr;
  std::string problem_;  // why what went to out_ cannot be joined; empty: it can
  size_t written_ = 0;  // bytes in all buffers alive
  Value filter_input_;  // of the filter chain of a filter or set block
  std::vector<ActivationRef> captured_;
};

}  // namespace apr::jinja
