// Attributes, items, slices and iteration. See jinja_operator.h.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tokenizer/jinja_loop.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

// Attributes that every Python object has; the sandbox refuses them all.
bool IsObjectAttribute(std::string_view name) {
  if (!name.starts_with("__") || !name.ends_with("__")) return false;
  constexpr std::string_view kNames[] = {
      "__class__",  "__delattr__",   "__dir__",         "__doc__",
      "__eq__",     "__format__",    "__ge__",          "__getattribute__",
      "__gt__",     "__hash__",      "__init__",        "__init_subclass__",
      "__le__",     "__lt__",        "__ne__",          "__new__",
      "__reduce__", "__reduce_ex__", "__repr__",        "__setattr__",
      "__sizeof__", "__str__",       "__subclasshook__"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

Value LoopAttribute(Runtime& rt, Loop& loop, std::string_view name) {
  if (name == "index") return Value::Int64(loop.index0 + 1);
  if (name == "index0") return Value::Int64(loop.index0);
  if (name == "first") return Value::Bool(loop.index0 == 0);
  if (name == "last") return Value::Bool(loop.PeekNext(rt).is_missing());
  if (name == "length") return Value::Int64(loop.CountAll(rt));
  if (name == "revindex") return Value::Int64(loop.CountAll(rt) - loop.index0);
  if (name == "revindex0") return Value::Int64(loop.CountAll(rt) - loop.index0 - 1);
  if (name == "depth") return Value::Int64(loop.depth0 + 1);
  if (name == "depth0") return Value::Int64(loop.depth0);
  if (name == "previtem") {
    return loop.index0 == 0 ? rt.MakeHint("there is no previous item") : loop.previous;
  }
  if (name == "nextitem") {
    const Value& next = loop.PeekNext(rt);
    return next.is_missing() ? rt.MakeHint("there is no next item") : next;
  }
  return {};
}

Value NumberAttribute(Runtime& rt, const Value& number, std::string_view name) {
  if (number.is_float()) {
    if (name == "real") return number;
    return name == "imag" ? Value::Float(0) : Value();
  }
  if (name == "real" || name == "numerator") return rt.MakeInt(number.int_value());
  if (name == "imag") return Value::Int64(0);
  return name == "denominator" ? Value::Int64(1) : Value();
}

Value MacroAttribute(Runtime& rt, const Macro& macro, std::string_view name) {
  if (name == "name") return macro.name().empty() ? Value::None() : rt.MakeStr(macro.name());
  if (name == "catch_kwargs") return Value::Bool(macro.def.takes_kwargs);
  if (name == "catch_varargs") return Value::Bool(macro.def.takes_varargs);
  if (name == "caller") return Value::Bool(macro.def.takes_caller);
  if (name == "explicit_caller") return Value::Bool(macro.def.explicit_caller);
  if (name != "arguments") return {};
  Values names;
  for (const Parameter& parameter : macro.def.parameters) names.push_back(parameter.name);
  return rt.MakeTuple(std::move(names));
}

Value SpecialAttribute(Runtime& rt, const Value& object, std::string_view name) {
  switch (object.type()) {
    case Type::kLoop:
      return LoopAttribute(rt, As<Loop>(object), name);
    case Type::kMacro:
      return MacroAttribute(rt, As<Macro>(object), name);
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
      return NumberAttribute(rt, object, name);
    case Type::kTuple:
      if (!As<List>(object).is_group) return {};
      if (name == "grouper") return Items(object)[0];
      return name == "list" ? Items(object)[1] : Value();
    case Type::kRange:
      if (name == "start") return Value::Int64(As<Range>(object).start);
      if (name == "stop") return Value::Int64(As<Range>(object).stop);
      return name == "step" ? Value::Int64(As<Range>(object).step) : Value();
    case Type::kCycler: {
      const Cycler& cycler = As<Cycler>(object);
      if (name == "current") return cycler.items[cycler.position];
      return name == "pos" ? Value::Size(cycler.position) : Value();
    }
    default:
      return {};
  }
}

// Index `key` of a sequence of `length`, or -1.
int64_t ItemIndex(const Value& key, int64_t length) {
  if (!key.is_integral()) return -1;
  Int index = key.int_value();
  if (index < 0) index += length;
  return index >= 0 && index < length ? static_cast<int64_t>(index) : -1;
}

std::string_view CodePointAt(const Str& str, size_t index) {
  const size_t begin = ByteOffset(str.text, str.length, index);
  size_t end = begin;
  DecodeAt(str.text, &end);
  return std::string_view(str.text).substr(begin, end - begin);
}

struct SliceRange {
  int64_t start, stop, step, count;
};

SliceRange SliceIndices(Runtime& rt, const Value& start, const Value& stop, const Value& step,
                        int64_t n) {
  const auto given = [](const Value& v) { return !v.is_missing() && !v.is_none(); };
  for (const Value* v : {&start, &stop, &step}) {
    if (given(*v) && !v->is_integral()) {
      rt.FailType("slice indices must be integers or None or have an __index__ method");
    }
  }
  const Int by = given(step) ? step.int_value() : 1;
  if (by == 0) rt.FailValue("slice step cannot be zero");
  const Int low = by > 0 ? 0 : -1;
  const Int high = by > 0 ? n : n - 1;
  const auto bound = [&](const Value& v, Int otherwise) {
    if (!given(v)) return otherwise;
    const Int i = v.int_value() < 0 ? v.int_value() + n : v.int_value();
    return std::clamp(i, low, high);
  };
  const Int first = bound(start, by > 0 ? low : high);
  const Int last = bound(stop, by > 0 ? high : low);
  const Int span = by > 0 ? last - first : first - last;
  const Int magnitude = by > 0 ? by : -by;
  const Int count = span <= 0 ? 0 : (span - 1) / magnitude + 1;
  return {static_cast<int64_t>(first), static_cast<int64_t>(last),
          static_cast<int64_t>(std::clamp<Int>(by, -n - 1, n + 1)), static_cast<int64_t>(count)};
}

Value SliceText(Runtime& rt, const Str& str, const SliceRange& range) {
  if (range.count == 0) return rt.MakeStr({}, str.markup);
  rt.StepBytes(str.text.size());
  if (range.step == 1) {
    const size_t begin = ByteOffset(str.text, str.length, static_cast<size_t>(range.start));
    const size_t end =
        ByteOffset(str.text, str.length, static_cast<size_t>(range.start + range.count));
    return rt.MakeStr(str.text.substr(begin, end - begin), str.markup);
  }
  std::vector<uint32_t> offsets;
  offsets.reserve(str.length + 1);
  for (size_t i = 0; i < str.text.size(); DecodeAt(str.text, &i))
    offsets.push_back(static_cast<uint32_t>(i));
  offsets.push_back(static_cast<uint32_t>(str.text.size()));
  std::string out;
  for (int64_t i = 0, at = range.start; i < range.count; ++i, at += range.step) {
    const auto k = static_cast<size_t>(at);
    out.append(str.text, offsets[k], offsets[k + 1] - offsets[k]);
  }
  return rt.MakeStr(std::move(out), str.markup);
}

// Walks the items of a value that has them all.
struct ItemIterator final : Iterator {
  ItemIterator(Runtime* owner, const Value& of, bool backward)
      : Iterator(owner, "iterator", of), source(of), reversed(backward), length(Length(of)) {
    if (reversed && source.is_str()) byte = Text(source).size();
  }

  bool Next(Runtime& rt, Value* out) override {
    if (index >= length) return false;
    const int64_t at = reversed ? length - 1 - index : index;
    ++index;
    switch (source.type()) {
      case Type::kList:
      case Type::kTuple:
        *out = Items(source)[static_cast<size_t>(at)];
        break;
      case Type::kRange:
        *out = Value::Int64(As<Range>(source).At(at));
        break;
      case Type::kDict:
        *out = As<Dict>(source).entries[static_cast<size_t>(at)].first;
        break;
      case Type::kView:
        *out = ViewItem(rt, As<View>(source), static_cast<size_t>(at));
        break;
      default: {
        const size_t begin = byte;
        if (reversed) {
          DecodeBefore(Text(source), &byte);
          *out = rt.MakeStr(Text(source).substr(byte, begin - byte));
        } else {
          DecodeAt(Text(source), &byte);
          *out = rt.MakeStr(Text(source).substr(begin, byte - begin));
        }
      }
    }
    return true;
  }

  static Value ViewItem(Runtime& rt, const View& view, size_t at) {
    const auto& [key, value] = view.dict().entries[at];
    if (view.kind == ViewKind::kKeys) return key;
    return view.kind == ViewKind::kValues ? value : rt.MakePair(key, value);
  }

  Value source;
  bool reversed;
  int64_t length;
  int64_t index = 0;
  size_t byte = 0;  // of a str
};

// Iterating over the loop variable goes on with its loop, giving (item, loop).
struct LoopIterator final : Iterator {
  LoopIterator(Runtime* owner, const Value& loop_value)
      : Iterator(owner, "LoopContext", loop_value), loop(loop_value) {}
  bool Next(Runtime& rt, Value* out) override {
    Value item;
    if (!As<Loop>(loop).Advance(rt, &item)) return false;
    *out = rt.MakePair(std::move(item), loop);
    return true;
  }
  Value loop;
};

}  // namespace

Value AttributeOnly(Runtime& rt, const Value& object, const Value& name, const MethodRow* methods) {
  const std::string_view text = Text(name);
  if (object.type() == Type::kNamespace) {
    const Value* found = As<Namespace>(object).dict().Find(text);
    return found != nullptr ? *found : Value();
  }
  const auto type = static_cast<size_t>(object.type());
  if (methods != nullptr && methods->by_type[type] != nullptr) {
    if (methods->unsafe[type])
      return rt.MakeUndefined(Undefined::Kind::kUnsafe, name, object.type());
    return Value(new Method(&rt, object, methods->name, methods->by_type[type]));
  }
  if (IsObjectAttribute(text))
    return rt.MakeUndefined(Undefined::Kind::kUnsafe, name, object.type());
  return SpecialAttribute(rt, object, text);
}

Value GetAttribute(Runtime& rt, const Value& object, const Value& name, const MethodRow* methods) {
  if (object.is_undefined() && !IsObjectAttribute(Text(name))) rt.FailUndefined(object);
  Value value = AttributeOnly(rt, object, name, methods);
  if (!value.is_missing()) return value;
  if (object.type() == Type::kDict) {
    if (const Value* found = As<Dict>(object).Find(Text(name))) return *found;
  }
  return rt.MakeUndefined(Undefined::Kind::kAttribute, name, object.type());
}

Value GetItem(Runtime& rt, const Value& object, const Value& key) {
  switch (object.type()) {
    case Type::kUndefined:
      rt.FailUndefined(object);
    case Type::kDict:
      if (IsHashable(key)) {
        if (const Value* found = As<Dict>(object).Find(key)) return *found;
      }
      break;
    case Type::kList:
    case Type::kTuple:
    case Type::kStr:
    case Type::kRange: {
      const int64_t index = ItemIndex(key, Length(object));
      if (index < 0) break;
      if (object.is_sequence()) return Items(object)[static_cast<size_t>(index)];
      if (!object.is_str()) return Value::Int64(As<Range>(object).At(index));
      const Str& str = As<Str>(object);
      if (str.length != str.text.size()) rt.StepBytes(str.text.size());
      return rt.MakeStr(std::string(CodePointAt(str, static_cast<size_t>(index))), str.markup);
    }
    default:
      break;
  }
  if (key.is_str()) {
    Value value = AttributeOnly(rt, object, key, FindMethods(Text(key)));
    if (!value.is_missing()) return value;
  }
  return rt.MakeUndefined(Undefined::Kind::kAttribute, key, object.type());
}

Value GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
               const Value& step) {
  switch (object.type()) {
    case Type::kStr: {
      const Str& str = As<Str>(object);
      return SliceText(rt, str,
                       SliceIndices(rt, start, stop, step, static_cast<int64_t>(str.length)));
    }
    case Type::kList:
    case Type::kTuple: {
      const Values& items = Items(object);
      const SliceRange range =
          SliceIndices(rt, start, stop, step, static_cast<int64_t>(items.size()));
      rt.ReserveValues(static_cast<uint64_t>(range.count));
      Values out;
      out.reserve(static_cast<size_t>(range.count));
      for (int64_t i = 0, at = range.start; i < range.count; ++i, at += range.step) {
        out.push_back(items[static_cast<size_t>(at)]);
      }
      return object.type() == Type::kList ? rt.MakeList(std::move(out))
                                          : rt.MakeTuple(std::move(out));
    }
    case Type::kRange: {
      const Range& range = As<Range>(object);
      const SliceRange slice = SliceIndices(rt, start, stop, step, range.count);
      const int64_t by = range.step * slice.step;
      return Value(new Range(&rt, range.At(slice.start), range.At(slice.stop), by, slice.count));
    }
    case Type::kUndefined:
      rt.FailUndefined(object);
    case Type::kDict:
      rt.FailType("unhashable type: 'slice'");
    default:
      rt.FailType(fmt::format("'{}' object is not subscriptable", TypeName(object)));
  }
}

bool IsIterable(const Value& value) {
  return Length(value) >= 0 || value.type() == Type::kIterator || value.type() == Type::kLoop;
}

Value MakeIterator(Runtime& rt, const Value& value) {
  if (value.type() == Type::kIterator) return value;
  if (value.type() == Type::kLoop) return Value(new LoopIterator(&rt, value));
  if (Length(value) < 0) rt.FailType(fmt::format("'{}' object is not iterable", TypeName(value)));
  return Value(new ItemIterator(&rt, value, false));
}

bool IsReversible(const Value& value) { return Length(value) >= 0 && !value.is_undefined(); }

Value MakeReverseIterator(Runtime& rt, const Value& value) {
  return Value(new ItemIterator(&rt, value, true));
}

Values Collect(Runtime& rt, const Value& iterable) {
  const Value iterator = MakeIterator(rt, iterable);
  Values out;
  const int64_t length = Length(iterable);
  if (length > 0) {
    rt.ReserveValues(static_cast<uint64_t>(length));
    out.reserve(static_cast<size_t>(length));
  }
  Value item;
  while (NextItem(rt, iterator, &item)) out.push_back(std::move(item));
  return out;
}

int64_t IndexValue(Runtime& rt, const Value& value) {
  if (value.is_undefined()) rt.FailUndefined(value);
  if (!value.is_integral()) {
    rt.FailType(fmt::format("'{}' object cannot be interpreted as an integer", TypeName(value)));
  }
  const Int i = value.int_value();
  if (i != static_cast<int64_t>(i)) rt.FailOverflow();
  return static_cast<int64_t>(i);
}

}  // namespace apr::jinja
