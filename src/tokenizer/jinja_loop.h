// Objects that belong to running code: variables of a function, macros, and the loop variable.
#pragma once

#include <string>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {

class Interpreter;

// The variables of one call of a function. Macros keep the activation that they were defined in.
struct Activation {
  Activation(Runtime& runtime, uint32_t slots, Activation* enclosing);
  ~Activation();
  Activation(const Activation&) = delete;
  Activation& operator=(const Activation&) = delete;

  Runtime& rt;
  Values variables;
  Activation* outer;
  uint32_t references = 0;
  bool captured = false;  // listed with the interpreter, which breaks cycles at the end
};

// Counts one user of an activation.
class ActivationRef {
 public:
  explicit ActivationRef(Activation* activation) : activation_(activation) {
    if (activation_ != nullptr) ++activation_->references;
  }
  ActivationRef(const ActivationRef& other) : ActivationRef(other.activation_) {}
  ActivationRef& operator=(const ActivationRef&) = delete;
  ~ActivationRef() {
    if (activation_ != nullptr && --activation_->references == 0) delete activation_;
  }
  Activation* get() const { return activation_; }

 private:
  Activation* activation_;
};

struct Macro final : Object {
  Macro(Runtime* owner, const MacroDef& definition, Activation* defined_in)
      : Object(Type::kMacro, owner, 0), def(definition), scope(defined_in) {}
  const std::string& name() const { return def.name; }
  const MacroDef& def;
  ActivationRef scope;
};

// The variable `loop` of a for block: position, and the items before and after.
struct Loop final : Object {
  Loop(Runtime* owner, const Stmt& for_stmt, Activation* in, int level);
  // Moves to the next item; false at the end.
  bool Advance(Runtime& rt, Value* item);
  int64_t CountAll(Runtime& rt);       // loop.length, which reads a one-pass source to its end
  const Value& PeekNext(Runtime& rt);  // missing at the end

  const Stmt& stmt;
  ActivationRef scope;  // that the for block stands in
  int depth0;
  Value source;    // what is iterated over
  Value iterator;  // an Iterator over it
  int64_t index0 = -1;
  int64_t length = -1;
  Value previous, current, after;
  Values changed;
  bool changed_called = false;
};

}  // namespace apr::jinja
