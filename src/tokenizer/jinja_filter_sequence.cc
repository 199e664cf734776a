// Filters on sequences and mappings. Those that Python makes lazily are lazy here too: an error in
// them appears when they are read, and they can be read once. See jinja_builtin.h.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "tokenizer/jinja_arguments.h"
#include "tokenizer/jinja_builtin.h"
#include "tokenizer/jinja_loop.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

// A generator: `step` finds the next value of `source`'s iterator that it gives on.
struct Generator final : Iterator {
  using StepFunction = std::function<bool(Runtime&, const Value& iterator, Value* out)>;
  Generator(Runtime* owner, const Value& over, StepFunction function)
      : Iterator(owner, "generator", over), source(over), step(std::move(function)) {}

  bool Next(Runtime& rt, Value* out) override {
    const Runtime::Deeper deeper(rt);
    if (finished) return false;
    if (iterator.is_missing()) iterator = MakeIterator(rt, source);
    finished = !step(rt, iterator, out);
    return !finished;
  }

  Value source;
  StepFunction step;
  Value iterator;
  bool finished = false;
};

Value MakeGenerator(Runtime& rt, const Value& source, Generator::StepFunction step) {
  return Value(new Generator(&rt, source, std::move(step)));
}

// Gives on what `make` makes of the whole source.
Value MakeDeferred(Runtime& rt, const Value& source,
                   std::function<Values(Runtime&, const Value&)> make) {
  struct Deferred final : Iterator {
    Deferred(Runtime* owner, const Value& over,
             std::function<Values(Runtime&, const Value&)> function)
        : Iterator(owner, "generator", over), source(over), make(std::move(function)) {}
    bool Next(Runtime& rt, Value* out) override {
      const Runtime::Deeper deeper(rt);
      if (!started) items = rt.MakeList(make(rt, source));
      started = true;
      if (at >= Items(items).size()) return false;
      *out = Items(items)[at++];
      return true;
    }
    Value source;
    std::function<Values(Runtime&, const Value&)> make;
    Value items;
    size_t at = 0;
    bool started = false;
  };
  return Value(new Deferred(&rt, source, std::move(make)));
}

// The path that an attribute argument names: "a.0.b" or a number.
Values AttributeParts(Runtime& rt, const Value& attribute) {
  Values parts;
  if (attribute.is_missing() || attribute.is_none()) return parts;
  if (!attribute.is_str()) {
    parts.push_back(attribute);
    return parts;
  }
  std::string_view rest = Text(attribute);
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool digits =
        !part.empty() && part.size() < 18 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    parts.push_back(digits ? Value::Int64(std::stoll(std::string(part)))
                           : rt.MakeStr(std::string(part)));
    if (dot == rest.npos) return parts;
    rest.remove_prefix(dot + 1);
  }
}

Value FollowParts(Runtime& rt, Value item, const Values& parts, const Value& otherwise = Value()) {
  for (const Value& part : parts) {
    rt.Step();
    item = GetItem(rt, item, part);
    if (item.is_undefined() && !otherwise.is_missing() && !otherwise.is_none()) item = otherwise;
  }
  return item;
}

Value IgnoreCase(Runtime& rt, Value value, bool case_sensitive) {
  if (case_sensitive || !value.is_str()) return value;
  rt.StepBytes(Text(value).size() * 4);
  return rt.MakeStr(ToLower(Text(value)));
}

Value LengthFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"length", {}, 0}, args);
  if (self.type() == Type::kLoop) return Value::Int64(As<Loop>(self).CountAll(rt));
  const int64_t length = Length(self);
  if (length < 0) rt.FailType(fmt::format("object of type '{}' has no len()", TypeName(self)));
  return Value::Int64(length);
}

Value FirstFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"first", {}, 0}, args);
  Value item;
  if (NextItem(rt, MakeIterator(rt, self), &item)) return item;
  return rt.MakeHint("No first item, sequence was empty.");
}

Value LastFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"last", {}, 0}, args);
  if (!self.is_undefined()) {
    if (!IsReversible(self))
      rt.FailType(fmt::format("'{}' object is not reversible", TypeName(self)));
    Value item;
    if (NextItem(rt, MakeReverseIterator(rt, self), &item)) return item;
  }
  return rt.MakeHint("No last item, sequence was empty.");
}

Value ListFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"list", {}, 0}, args);
  return rt.MakeList(Collect(rt, self));
}

Value JoinFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"join", {"d", "attribute"}, 0}, args);
  const std::string separator = a[0].is_missing() ? "" : ToStr(rt, a[0]);
  const Values parts = AttributeParts(rt, a[1]);
  const Value iterator = MakeIterator(rt, self);
  std::string out;
  Value item;
  for (bool first = true; NextItem(rt, iterator, &item); first = false) {
    if (!first) out += separator;
    rt.StepBytes(separator.size());
    AppendStr(rt, FollowParts(rt, item, parts), &out);
    rt.Reserve(out.size());
  }
  return rt.MakeStr(std::move(out));
}

Value ReverseFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"reverse", {}, 0}, args);
  if (self.is_str()) return GetSlice(rt, self, Value(), Value(), Value::Int64(-1));
  if (IsReversible(self) || self.is_undefined()) return MakeReverseIterator(rt, self);
  if (!IsIterable(self)) rt.Fail("argument must be iterable");
  Values items = Collect(rt, self);
  std::reverse(items.begin(), items.end());
  return rt.MakeList(std::move(items));
}

struct Keyed {
  Value key, item;
};

void SortKeyed(Runtime& rt, std::vector<Keyed>* items, bool reverse) {
  std::stable_sort(items->begin(), items->end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? Less(rt, b.key, a.key) : Less(rt, a.key, b.key);
  });
}

Values ItemsOf(std::vector<Keyed> keyed) {
  Values items;
  items.reserve(keyed.size());
  for (Keyed& k : keyed) items.push_back(std::move(k.item));
  return items;
}

Value SortFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"sort", {"reverse", "case_sensitive", "attribute"}, 0}, args);
  const bool case_sensitive = FlagOr(a[1], false);
  std::vector<Values> paths;
  if (a[2].is_str()) {
    std::string_view rest = Text(a[2]);
    for (bool more = true; more;) {
      const size_t comma = rest.find(',');
      paths.push_back(AttributeParts(rt, rt.MakeStr(std::string(rest.substr(0, comma)))));
      more = comma != rest.npos;
      if (more) rest.remove_prefix(comma + 1);
    }
  } else {
    paths.push_back(AttributeParts(rt, a[2]));
  }
  std::vector<Keyed> keyed;
  for (Value& item : Collect(rt, self)) {
    Values keys;
    for (const Values& path : paths)
      keys.push_back(IgnoreCase(rt, FollowParts(rt, item, path), case_sensitive));
    keyed.push_back({rt.MakeList(std::move(keys)), std::move(item)});
  }
  SortKeyed(rt, &keyed, FlagOr(a[0], false));
  return rt.MakeList(ItemsOf(std::move(keyed)));
}

Value DictSortFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"dictsort", {"case_sensitive", "by", "reverse"}, 0}, args);
  const std::string by = a[1].is_missing() ? "key" : ToStr(rt, a[1]);
  if (by != "key" && by != "value") rt.Fail("You can only sort by either \"key\" or \"value\"");
  if (self.is_undefined()) rt.FailUndefined(self);
  if (self.type() != Type::kDict)
    rt.Fail(fmt::format("'{} object' has no attribute 'items'", TypeName(self)));
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : As<Dict>(self).entries) {
    keyed.push_back(
        {IgnoreCase(rt, by == "key" ? key : value, FlagOr(a[0], false)), rt.MakePair(key, value)});
  }
  SortKeyed(rt, &keyed, FlagOr(a[2], false));
  return rt.MakeList(ItemsOf(std::move(keyed)));
}

template <bool Max>
Value Extreme(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a =
      BindArguments(rt, {Max ? "max" : "min", {"case_sensitive", "attribute"}, 0}, args);
  const Values path = AttributeParts(rt, a[1]);
  const Value iterator = MakeIterator(rt, self);
  Keyed best;
  Value item;
  while (NextItem(rt, iterator, &item)) {
    Value key = IgnoreCase(rt, FollowParts(rt, item, path), FlagOr(a[0], false));
    if (best.item.is_missing() || (Max ? Less(rt, best.key, key) : Less(rt, key, best.key))) {
      best = {std::move(key), item};
    }
  }
  return best.item.is_missing() ? rt.MakeHint("No aggregated item, sequence was empty.")
                                : best.item;
}

Value SumFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"sum", {"attribute", "start"}, 0}, args);
  const Values path = AttributeParts(rt, a[0]);
  Value total = a[1].is_missing() ? Value::Int64(0) : a[1];
  if (total.is_str()) rt.FailType("sum() can't sum strings [use ''.join(seq) instead]");
  const Value iterator = MakeIterator(rt, self);
  Value item;
  while (NextItem(rt, iterator, &item)) {
    total = BinaryOperation(rt, Op::kAdd, total, FollowParts(rt, item, path));
  }
  return total;
}

Value UniqueFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"unique", {"case_sensitive", "attribute"}, 0}, args);
  const Values path = AttributeParts(rt, a[1]);
  const bool case_sensitive = FlagOr(a[0], false);
  const Value seen(new Dict(&rt));
  return MakeGenerator(rt, self, [=](Runtime& r, const Value& iterator, Value* out) {
    while (NextItem(r, iterator, out)) {
      const Value key = IgnoreCase(r, FollowParts(r, *out, path), case_sensitive);
      if (!IsHashable(key)) r.FailType(fmt::format("unhashable type: '{}'", TypeName(key)));
      if (As<Dict>(seen).Find(key) != nullptr) continue;
      As<Dict>(seen).Set(key, Value::None());
      return true;
    }
    return false;
  });
}

Value GroupByFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a =
      BindArguments(rt, {"groupby", {"attribute", "default", "case_sensitive"}, 1}, args);
  const Values path = AttributeParts(rt, a[0]);
  const bool case_sensitive = FlagOr(a[2], false);
  std::vector<Keyed> keyed;
  for (Value& item : Collect(rt, self)) {
    Value key = IgnoreCase(rt, FollowParts(rt, item, path, a[1]), case_sensitive);
    keyed.push_back({std::move(key), std::move(item)});
  }
  SortKeyed(rt, &keyed, false);
  Values groups;
  for (size_t begin = 0; begin < keyed.size();) {
    size_t end = begin;
    Values members;
    while (end < keyed.size() && Equal(keyed[end].key, keyed[begin].key))
      members.push_back(keyed[end++].item);
    Value key = FollowParts(rt, members[0], path, a[1]);
    Value group = rt.MakePair(std::move(key), rt.MakeList(std::move(members)));
    As<List>(group).is_group = true;
    groups.push_back(std::move(group));
    begin = end;
  }
  return rt.MakeList(std::move(groups));
}

Value BatchFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"batch", {"linecount", "fill_with"}, 1}, args);
  const Value size = a[0];
  const Value fill = a[1];
  return MakeDeferred(rt, self, [=](Runtime& r, const Value& source) {
    Values out;
    Values line;
    for (Value& item : Collect(r, source)) {
      if (size.is_number() && Equal(size, Value::Size(line.size()))) {
        out.push_back(r.MakeList(std::exchange(line, {})));
      }
      line.push_back(std::move(item));
    }
    if (line.empty()) return out;
    if (!fill.is_missing() && !fill.is_none()) {
      const int64_t missing = IndexValue(r, size) - static_cast<int64_t>(line.size());
      r.ReserveValues(static_cast<uint64_t>(std::max<int64_t>(0, missing)));
      for (int64_t i = 0; i < missing; ++i) line.push_back(fill);
    }
    out.push_back(r.MakeList(std::move(line)));
    return out;
  });
}

Value SliceFilter(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"slice", {"slices", "fill_with"}, 1}, args);
  const Value slices = a[0];
  const Value fill = a[1];
  return MakeDeferred(rt, self, [=](Runtime& r, const Value& source) {
    const Values items = Collect(r, source);
    const int64_t count = IndexValue(r, slices);
    if (count == 0) r.Fail("ZeroDivisionError: integer division or modulo by zero");
    const auto length = static_cast<int64_t>(items.size());
    Values out;
    int64_t at = 0;
    for (int64_t k = 0; k < count; ++k) {
      r.Step();
      const bool extra = k < length % count;
      const int64_t size = length / count + (extra ? 1 : 0);
      Values part(items.begin() + at, items.begin() + at + size);
      if (!fill.is_missing() && !fill.is_none() && !extra) part.push_back(fill);
      out.push_back(r.MakeList(std::move(part)));
      at += size;
    }
    return out;
  });
}

Value ItemsFilter(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"items", {}, 0}, args);
  return MakeDeferred(rt, self, [](Runtime& r, const Value& source) {
    if (source.is_undefined()) return Values();
    if (source.type() != Type::kDict) r.FailType("Can only get item pairs from a mapping.");
    return Collect(r, Value(new View(&r, source, ViewKind::kItems)));
  });
}

Value CallNamed(Runtime& r, bool filter, const Value& name, const Value& item,
                const CallArgs& args) {
  if (name.is_undefined()) r.FailUndefined(name);
  const Builtin function = !name.is_str() ? nullptr
                           : filter       ? FindFilter(Text(name))
                                          : FindTest(Text(name));
  if (function == nullptr)
    r.Fail(fmt::format("No {} named {}.", filter ? "filter" : "test", Repr(r, name)));
  CallArgs copy = args;
  return function(r, item, copy);
}

Value MapFilter(Runtime& rt, const Value& self, CallArgs& args) {
  if (!Truthy(self))
    return MakeDeferred(rt, rt.MakeList({}), [](Runtime&, const Value&) { return Values(); });
  if (args.positional.empty() && !args.named.empty() &&
      std::any_of(args.named.begin(), args.named.end(),
                  [](const auto& n) { return Text(n.first) == "attribute"; })) {
    const Bound a = BindArguments(rt, {"map", {"attribute", "default"}, 0}, args);
    const Values path = AttributeParts(rt, a[0]);
    const Value otherwise = a[1];
    return MakeGenerator(rt, self, [=](Runtime& r, const Value& iterator, Value* out) {
      Value item;
      if (!NextItem(r, iterator, &item)) return false;
      *out = FollowParts(r, std::move(item), path, otherwise);
      return true;
    });
  }
  CallArgs rest = args;
  Value name;
  if (!rest.positional.empty()) {
    name = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
  }
  return MakeGenerator(rt, self, [=](Runtime& r, const Value& iterator, Value* out) {
    if (name.is_missing()) r.Fail("map requires a filter argument");
    Value item;
    if (!NextItem(r, iterator, &item)) return false;
    *out = CallNamed(r, true, name, item, rest);
    return true;
  });
}

// select, reject, selectattr, rejectattr.
template <bool Keep, bool ByAttribute>
Value SelectFilter(Runtime& rt, const Value& self, CallArgs& args) {
  if (!Truthy(self))
    return MakeDeferred(rt, rt.MakeList({}), [](Runtime&, const Value&) { return Values(); });
  CallArgs rest = args;
  const auto take = [&] {
    if (rest.positional.empty()) return Value();
    Value first = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
    return first;
  };
  const Value attribute = ByAttribute ? take() : Value();
  const Value test = take();
  const Values path = AttributeParts(rt, attribute);
  return MakeGenerator(rt, self, [=](Runtime& r, const Value& iterator, Value* out) {
    if (ByAttribute && attribute.is_missing()) r.Fail("Missing parameter for attribute name");
    while (NextItem(r, iterator, out)) {
      const Value subject = ByAttribute ? FollowParts(r, *out, path) : *out;
      const bool passes =
          Truthy(test.is_missing() ? subject : CallNamed(r, false, test, subject, rest));
      if (passes == Keep) return true;
    }
    return false;
  });
}

}  // namespace

Builtin FindSequenceFilter(std::string_view name) {
  static constexpr std::pair<std::string_view, Builtin> kFilters[] = {
      {"batch", BatchFilter},
      {"count", LengthFilter},
      {"dictsort", DictSortFilter},
      {"first", FirstFilter},
      {"groupby", GroupByFilter},
      {"items", ItemsFilter},
      {"join", JoinFilter},
      {"last", LastFilter},
      {"length", LengthFilter},
      {"list", ListFilter},
      {"map", MapFilter},
      {"max", Extreme<true>},
      {"min", Extreme<false>},
      {"reject", SelectFilter<false, false>},
      {"rejectattr", SelectFilter<false, true>},
      {"reverse", ReverseFilter},
      {"select", SelectFilter<true, false>},
      {"selectattr", SelectFilter<true, true>},
      {"slice", SliceFilter},
      {"sort", SortFilter},
      {"sum", SumFilter},
      {"unique", UniqueFilter},
  };
  for (const auto& [filter, function] : kFilters) {
    if (filter == name) return function;
  }
  return nullptr;
}

}  // namespace apr::jinja
