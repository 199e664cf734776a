// Global functions of templates. See jinja_builtin.h.
#include <fmt/format.h>

#include <algorithm>

#include "tokenizer/jinja_arguments.h"
#include "tokenizer/jinja_builtin.h"
#include "tokenizer/jinja_operator.h"

namespace apr::jinja {
namespace {

constexpr Int kMaxRange = 100000;  // of the sandbox

Value RangeFunction(Runtime& rt, const Value&, CallArgs& args) {
  const Bound a = BindArguments(rt, {"range", {"start", "stop", "step"}, 1, false}, args);
  const int64_t first = IndexValue(rt, a[0]);
  const Int start = a[1].is_missing() ? 0 : first;
  const Int stop = a[1].is_missing() ? first : IndexValue(rt, a[1]);
  const Int step = IntOr(rt, a[2], 1);
  if (step == 0) rt.FailValue("range() arg 3 must not be zero");
  const Int span = step > 0 ? stop - start : start - stop;
  const Int count = span <= 0 ? 0 : (span - 1) / (step > 0 ? step : -step) + 1;
  if (count > kMaxRange) {
    rt.Fail(
        "OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  }
  return Value(new Range(&rt, static_cast<int64_t>(start), static_cast<int64_t>(stop),
                         static_cast<int64_t>(step), static_cast<int64_t>(count)));
}

// dict(mapping or pairs, **named) into `dict`.
void FillDict(Runtime& rt, Dict* dict, CallArgs& args) {
  if (args.positional.size() > 1) {
    rt.FailType(fmt::format("dict expected at most 1 argument, got {}", args.positional.size()));
  }
  const auto set = [&](const Value& key, const Value& value) {
    rt.Step();
    if (!IsHashable(key)) rt.FailType(fmt::format("unhashable type: '{}'", TypeName(key)));
    dict->Set(key, value);
  };
  if (args.positional.size() == 1) {
    const Value& source = args.positional[0];
    if (source.type() == Type::kDict) {
      for (const auto& [key, value] : As<Dict>(source).entries) set(key, value);
    } else {
      for (const Value& pair : Collect(rt, source)) {
        const Values parts = Collect(rt, pair);
        if (parts.size() != 2) {
          rt.FailValue(fmt::format(
              "dictionary update sequence element has length {}; 2 is required", parts.size()));
        }
        set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : args.named) set(name, value);
}

Value DictFunction(Runtime& rt, const Value&, CallArgs& args) {
  Value dict(new Dict(&rt));
  FillDict(rt, &As<Dict>(dict), args);
  return dict;
}

Value NamespaceFunction(Runtime& rt, const Value&, CallArgs& args) {
  Value space(new Namespace(&rt));
  rt.KeepNamespace(space);
  FillDict(rt, &As<Namespace>(space).dict(), args);
  for (const auto& [key, value] : As<Namespace>(space).dict().entries) {
    if (key.is_str() && Text(key).starts_with('_')) {
      rt.Fail(
          "Chat templates cannot store underscore-prefixed attributes on a namespace, but got " +
          QuoteText(Text(key)));
    }
  }
  return space;
}

Value CyclerFunction(Runtime& rt, const Value&, CallArgs& args) {
  if (!args.named.empty()) rt.FailType("cycler() takes no keyword arguments");
  if (args.positional.empty()) rt.Fail("RuntimeError: at least one item has to be provided");
  return Value(new Cycler(&rt, args.positional));
}

Value JoinerFunction(Runtime& rt, const Value&, CallArgs& args) {
  const Bound a = BindArguments(rt, {"joiner", {"sep"}, 0}, args);
  return Value(new Joiner(&rt, a[0].is_missing() ? rt.MakeStr(", ") : a[0]));
}

Value RaiseException(Runtime& rt, const Value&, CallArgs& args) {
  const Bound a = BindArguments(rt, {"raise_exception", {"message"}, 1}, args);
  rt.Raise(ToStr(rt, a[0]));
}

Value StrftimeNow(Runtime& rt, const Value&, CallArgs& args) {
  const Bound a = BindArguments(rt, {"strftime_now", {"format"}, 1}, args);
  const std::string& format = TextArgument(rt, "strftime_now", a[0]);
  rt.Reserve(format.size() * 32);
  rt.StepBytes(format.size() * 16);
  return rt.MakeStr(FormatTime(rt.now(), format));
}

Value Lipsum(Runtime& rt, const Value&, CallArgs&) {
  rt.Fail("the function 'lipsum' is not supported");
}

}  // namespace

Value MakeGlobal(Runtime& rt, std::string_view name) {
  static constexpr std::pair<const char*, Builtin> kFunctions[] = {
      {"cycler", CyclerFunction},       {"dict", DictFunction},
      {"joiner", JoinerFunction},       {"lipsum", Lipsum},
      {"namespace", NamespaceFunction}, {"raise_exception", RaiseException},
      {"range", RangeFunction},         {"strftime_now", StrftimeNow},
  };
  for (const auto& [function, body] : kFunctions) {
    if (name == function) return Value(new Function(&rt, function, body));
  }
  return {};
}

}  // namespace apr::jinja
