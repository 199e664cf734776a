// See jinja_arguments.h.
#include "tokenizer/jinja_arguments.h"

#include <fmt/format.h>

#include <algorithm>

#include "tokenizer/jinja_operator.h"

namespace apr::jinja {

Bound BindArguments(Runtime& rt, const Signature& signature, CallArgs& args) {
  Bound bound;
  const size_t count = signature.parameters.size();
  if (args.positional.size() > count) {
    rt.FailType(fmt::format("{}() takes at most {} argument(s) ({} given)", signature.name, count,
                            args.positional.size()));
  }
  std::copy(args.positional.begin(), args.positional.end(), bound.begin());
  for (const auto& [name, value] : args.named) {
    const auto it = std::find(signature.parameters.begin(), signature.parameters.end(), Text(name));
    if (it == signature.parameters.end() || !signature.keywords) {
      rt.FailType(fmt::format("{}() got an unexpected keyword argument {}", signature.name,
                              QuoteText(Text(name))));
    }
    Value& slot = bound[static_cast<size_t>(it - signature.parameters.begin())];
    if (!slot.is_missing()) {
      rt.FailType(fmt::format("{}() got multiple values for argument '{}'", signature.name, *it));
    }
    slot = value;
  }
  for (size_t i = 0; i < signature.required; ++i) {
    if (bound[i].is_missing()) {
      rt.FailType(fmt::format("{}() missing required argument '{}'", signature.name,
                              signature.parameters.begin()[i]));
    }
  }
  return bound;
}

int64_t IntOr(Runtime& rt, const Value& value, int64_t otherwise) {
  return value.is_missing() ? otherwise : IndexValue(rt, value);
}

const std::string& TextArgument(Runtime& rt, const char* function, const Value& value) {
  if (!value.is_str()) {
    if (value.is_undefined()) rt.FailUndefined(value);
    rt.FailType(fmt::format("{}() argument must be str, not {}", function, TypeName(value)));
  }
  return Text(value);
}

}  // namespace apr::jinja
