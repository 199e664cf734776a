// See jinja_runtime.h.
#include "tokenizer/jinja_runtime.h"

#include <fmt/format.h>

namespace apr::jinja {

void Runtime::Reserve(uint64_t bytes) {
  if (bytes > memory_) {
    FailLimit(fmt::format("more than {} MiB of values", limits_.memory_bytes >> 20));
  }
}

void Runtime::ReserveValues(uint64_t count) {
  if (count > memory_ / sizeof(Value)) Reserve(memory_ + 1);
}

void Runtime::Charge(size_t bytes) {
  Reserve(bytes);
  StepBytes(bytes);
  memory_ -= bytes;
}

Value Runtime::MakeInt(Int value) {
  if (value == static_cast<int64_t>(value)) return Value::Int64(static_cast<int64_t>(value));
  return Value(new WideInt(this, value));
}

Value Runtime::MakeStr(std::string text, bool markup) {
  return Value(new Str(this, std::move(text), markup));
}

Value Runtime::MakePair(Value a, Value b) {
  Values pair;
  pair.reserve(2);
  pair.push_back(std::move(a));
  pair.push_back(std::move(b));
  return MakeTuple(std::move(pair));
}

Value Runtime::MakeHint(std::string hint) {
  return MakeUndefined(Undefined::Kind::kHint, MakeStr(std::move(hint)));
}

void Runtime::Fail(std::string message) const {
  throw TemplateError(TemplateErrorKind::kRuntime, std::move(message), line);
}
void Runtime::FailType(const std::string& message) const { Fail("TypeError: " + message); }
void Runtime::FailValue(const std::string& message) const { Fail("ValueError: " + message); }
void Runtime::FailOverflow() const { Fail("OverflowError: integer beyond 128 bits"); }
void Runtime::FailLimit(const std::string& what) const {
  throw TemplateError(TemplateErrorKind::kLimit, "template needs " + what, line);
}
void Runtime::FailSteps() const { FailLimit(fmt::format("more than {} steps", limits_.steps)); }
void Runtime::FailDepth() const { FailLimit("deeper recursion than is allowed"); }
void Runtime::Raise(std::string message) const {
  throw TemplateError(TemplateErrorKind::kRaised, std::move(message), line);
}

void Runtime::FailUndefined(const Value& undefined) const {
  const Undefined& u = As<Undefined>(undefined);
  switch (u.kind) {
    case Undefined::Kind::kHint:
      Fail(Text(u.name));
    case Undefined::Kind::kVariable:
      Fail(QuoteText(Text(u.name)) + " is undefined");
    case Undefined::Kind::kUnsafe:
      Fail(fmt::format("access to attribute {} of '{}' object is unsafe.", QuoteText(Text(u.name)),
                       TypeName(u.owner_type)));
    case Undefined::Kind::kAttribute:
      break;
  }
  const std::string owner =
      u.owner_type == Type::kNone ? "None" : fmt::format("{} object", TypeName(u.owner_type));
  if (u.name.is_str())
    Fail(fmt::format("'{}' has no attribute {}", owner, QuoteText(Text(u.name))));
  const std::string element = u.name.is_integral() ? IntText(u.name.int_value())
                              : u.name.is_float()  ? FloatText(u.name.float_value())
                                                   : TypeName(u.name);
  Fail(fmt::format("{} has no element {}", owner, element));
}

void Runtime::EndRendering() {
  for (Value& space : namespaces_) {
    Values dropped;
    for (auto& [key, value] : As<Namespace>(space).dict().entries)
      dropped.push_back(std::move(value));
    As<Namespace>(space).attributes = Value();
  }
  namespaces_.clear();
}

size_t Runtime::StackUsed() const {
  const auto* address = static_cast<const char*>(__builtin_frame_address(0));
  return static_cast<size_t>(stack_base_ > address ? stack_base_ - address : address - stack_base_);
}

void Runtime::SetStackBase() { stack_base_ = static_cast<const char*>(__builtin_frame_address(0)); }

}  // namespace apr::jinja
