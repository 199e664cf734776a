// Methods of list, tuple, dict, range, loop and the rest. See jinja_method.h.
#include "tokenizer/jinja_method.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "tokenizer/jinja_arguments.h"
#include "tokenizer/jinja_loop.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_string_method.h"

namespace apr::jinja {
namespace {

Value CountItem(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"count", {"value"}, 1, false}, args);
  if (self.type() == Type::kRange) return Value::Int64(Contains(rt, self, a[0]) ? 1 : 0);
  rt.Step(static_cast<int64_t>(Items(self).size()));
  return Value::Int64(std::count_if(Items(self).begin(), Items(self).end(),
                                    [&](const Value& item) { return Equal(item, a[0]); }));
}

Value IndexOfItem(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"index", {"value", "start", "stop"}, 1, false}, args);
  const Value part = a[1].is_missing() ? self : GetSlice(rt, self, a[1], a[2], Value());
  const int64_t length = Length(self);
  int64_t offset = IntOr(rt, a[1], 0);
  if (offset < 0) offset = std::max<int64_t>(0, offset + length);
  const Value iterator = MakeIterator(rt, part);
  Value item;
  for (int64_t i = 0; NextItem(rt, iterator, &item); ++i) {
    if (Equal(item, a[0])) return Value::Int64(offset + i);
  }
  rt.FailValue(fmt::format("{} is not in {}", Repr(rt, a[0]), TypeName(self)));
}

Value CopyList(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"copy", {}, 0, false}, args);
  return rt.MakeList(Collect(rt, self));
}

Value CopyDict(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"copy", {}, 0, false}, args);
  Value copy(new Dict(&rt));
  for (const auto& [key, value] : As<Dict>(self).entries) {
    rt.Step();
    As<Dict>(copy).Set(key, value);
  }
  return copy;
}

Value GetKey(Runtime& rt, const Value& self, CallArgs& args) {
  const Bound a = BindArguments(rt, {"get", {"key", "default"}, 1, false}, args);
  if (!IsHashable(a[0])) rt.FailType(fmt::format("unhashable type: '{}'", TypeName(a[0])));
  if (const Value* found = As<Dict>(self).Find(a[0])) return *found;
  return a[1].is_missing() ? Value::None() : a[1];
}

template <ViewKind Kind>
Value MakeView(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"items", {}, 0, false}, args);
  return Value(new View(&rt, self, Kind));
}

// A method that the sandbox keeps out of reach; it is never called.
Value Forbidden(Runtime& rt, const Value& self, CallArgs& args) {
  static_cast<void>(self);
  static_cast<void>(args);
  rt.Fail("this method is unsafe");
}

Value LoopCycle(Runtime& rt, const Value& self, CallArgs& args) {
  if (!args.named.empty()) rt.FailType("cycle() takes no keyword arguments");
  if (args.positional.empty()) rt.FailType("no items for cycling given");
  return args.positional[static_cast<size_t>(As<Loop>(self).index0) % args.positional.size()];
}

Value LoopChanged(Runtime& rt, const Value& self, CallArgs& args) {
  if (!args.named.empty()) rt.FailType("changed() takes no keyword arguments");
  Loop& loop = As<Loop>(self);
  const bool same =
      loop.changed_called && loop.changed.size() == args.positional.size() &&
      std::equal(loop.changed.begin(), loop.changed.end(), args.positional.begin(), Equal);
  loop.changed_called = true;
  if (!same) loop.changed = args.positional;
  return Value::Bool(!same);
}

Value CyclerNext(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"next", {}, 0, false}, args);
  Cycler& cycler = As<Cycler>(self);
  const Value item = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return item;
}

Value CyclerReset(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"reset", {}, 0, false}, args);
  As<Cycler>(self).position = 0;
  return Value::None();
}

Value IsIntegerValued(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"is_integer", {}, 0, false}, args);
  const double value = self.float_value();
  return Value::Bool(value - value == 0 && static_cast<double>(static_cast<long double>(value)) ==
                                               __builtin_trunc(value));
}

Value BitLength(Runtime& rt, const Value& self, CallArgs& args) {
  BindArguments(rt, {"bit_length", {}, 0, false}, args);
  Int value = self.int_value();
  int64_t bits = 0;
  for (; value != 0; value /= 2) ++bits;
  return Value::Int64(bits);
}

using Table = std::unordered_map<std::string_view, MethodRow>;

void Add(Table* table, Type type, const char* name, Builtin method, bool unsafe = false) {
  MethodRow& row = (*table)[name];
  row.name = name;
  row.by_type[static_cast<size_t>(type)] = method;
  row.unsafe[static_cast<size_t>(type)] = unsafe;
}

Table MakeTable() {
  Table table;
  for (const auto& [name, method] : StringMethods()) Add(&table, Type::kStr, name, method);
  for (const char* name :
       {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"}) {
    Add(&table, Type::kList, name, Forbidden, true);
  }
  for (const char* name : {"clear", "pop", "popitem", "setdefault", "update"}) {
    Add(&table, Type::kDict, name, Forbidden, true);
  }
  Add(&table, Type::kList, "copy", CopyList);
  for (const Type type : {Type::kList, Type::kTuple, Type::kRange}) {
    Add(&table, type, "count", CountItem);
    Add(&table, type, "index", IndexOfItem);
  }
  Add(&table, Type::kDict, "copy", CopyDict);
  Add(&table, Type::kDict, "get", GetKey);
  Add(&table, Type::kDict, "items", MakeView<ViewKind::kItems>);
  Add(&table, Type::kDict, "keys", MakeView<ViewKind::kKeys>);
  Add(&table, Type::kDict, "values", MakeView<ViewKind::kValues>);
  Add(&table, Type::kLoop, "cycle", LoopCycle);
  Add(&table, Type::kLoop, "changed", LoopChanged);
  Add(&table, Type::kCycler, "next", CyclerNext);
  Add(&table, Type::kCycler, "reset", CyclerReset);
  Add(&table, Type::kFloat, "is_integer", IsIntegerValued);
  Add(&table, Type::kInt, "bit_length", BitLength);
  Add(&table, Type::kBool, "bit_length", BitLength);
  return table;
}

}  // namespace

const MethodRow* FindMethods(std::string_view name) {
  static const Table table = MakeTable();
  const auto it = table.find(name);
  return it == table.end() ? nullptr : &it->second;
}

}  // namespace apr::jinja
