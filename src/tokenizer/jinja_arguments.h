// Binding the arguments of a built-in to its parameters.
#pragma once

#include <array>
#include <initializer_list>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {

constexpr size_t kMaxParameters = 6;
using Bound = std::array<Value, kMaxParameters>;  // missing where not given

struct Signature {
  const char* name;  // of the built-in, for errors
  std::initializer_list<const char*> parameters;
  size_t required = 0;
  bool keywords = true;  // parameters may be given by name
};

// Throws TypeError for too many, unknown, repeated or missing arguments.
Bound BindArguments(Runtime& rt, const Signature& signature, CallArgs& args);

// Parameters with a default.
inline bool FlagOr(const Value& value, bool otherwise) {
  return value.is_missing() ? otherwise : Truthy(value);
}
int64_t IntOr(Runtime& rt, const Value& value, int64_t otherwise);  // missing only
// The text of a str argument, else TypeError.
const std::string& TextArgument(Runtime& rt, const char* function, const Value& value);

}  // namespace apr::jinja
