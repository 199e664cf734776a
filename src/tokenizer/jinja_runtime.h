// The state of one rendering that every operation shares: limits, the current line, making values,
// and the errors. Not the interpreter (jinja_interpreter.h), which walks the template.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_time.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {

constexpr int kMaxNesting = 500;  // levels of containers within containers

class Runtime {
 public:
  Runtime(const TemplateLimits& limits, const LocalTime& now)
      : steps_(limits.steps), memory_(limits.memory_bytes), limits_(limits), now_(now) {}

  // One unit of work; throws TemplateError(kLimit) when they are used up.
  void Step(int64_t count = 1) {
    if ((steps_ -= count) < 0) FailSteps();
  }
  // Work proportional to `bytes`.
  void StepBytes(size_t bytes) { Step(1 + static_cast<int64_t>(bytes / 32)); }
  // Call before making something of `bytes` or `count` values: throws when it cannot fit.
  void Reserve(uint64_t bytes);
  void ReserveValues(uint64_t count);
  void Charge(size_t bytes);
  void Release(size_t bytes) { memory_ += bytes; }

  Value MakeInt(Int value);
  Value MakeStr(std::string text, bool markup = false);
  Value MakeList(Values items) { return Value(new List(this, Type::kList, std::move(items))); }
  Value MakeTuple(Values items) { return Value(new List(this, Type::kTuple, std::move(items))); }
  Value MakePair(Value a, Value b);
  Value MakeUndefined(Undefined::Kind kind, Value name, Type owner = Type::kMissing) {
    return Value(new Undefined(this, kind, std::move(name), owner));
  }
  Value MakeHint(std::string hint);

  // Errors of the template or its values. `type` is Python's name of the exception.
  [[noreturn]] void Fail(std::string message) const;
  [[noreturn]] void FailType(const std::string& message) const;
  [[noreturn]] void FailValue(const std::string& message) const;
  [[noreturn]] void FailOverflow() const;
  [[noreturn]] void FailUndefined(const Value& undefined) const;
  [[noreturn]] void FailLimit(const std::string& what) const;
  [[noreturn]] void Raise(std::string message) const;  // raise_exception

  // Guards recursion of the walk: throws when too many are alive or the stack is nearly used.
  class Deeper {
   public:
    explicit Deeper(Runtime& rt) : rt_(rt) {
      if (++rt_.depth_ > rt_.limits_.depth || rt_.StackUsed() > rt_.limits_.stack_bytes) {
        --rt_.depth_;
        rt_.FailDepth();
      }
    }
    ~Deeper() { --rt_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Runtime& rt_;
  };

  // Keeps a namespace until EndRendering, which empties them all: they alone can hold themselves.
  void KeepNamespace(const Value& space) { namespaces_.push_back(space); }
  void EndRendering();

  const TemplateLimits& limits() const { return limits_; }
  const LocalTime& now() const { return now_; }
  uint32_t line = 1;  // of the node being evaluated

 private:
  [[noreturn]] void FailSteps() const;
  [[noreturn]] void FailDepth() const;
  size_t StackUsed() const;

  int64_t steps_;
  size_t memory_;  // bytes left
  TemplateLimits limits_;
  LocalTime now_;
  int depth_ = 0;
  Values namespaces_;
  const char* stack_base_ = nullptr;

 public:
  // Call once in the frame from which recursion is measured.
  void SetStackBase();
};

}  // namespace apr::jinja
