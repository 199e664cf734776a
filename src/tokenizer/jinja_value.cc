// See jinja_value.h. Text forms (str, repr) are in jinja_repr.cc.
#include "tokenizer/jinja_value.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "tokenizer/jinja_loop.h"
#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

constexpr size_t kSmallDict = 8;  // entries searched in order, without a table

// Different in every process, so that keys cannot be chosen to collide. Order of entries never
// depends on it.
uint64_t HashSeed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return (static_cast<uint64_t>(device()) << 32) ^ device();
  }();
  return seed;
}

uint64_t Mix(uint64_t x) {  // finaliser of splitmix64
  x = (x ^ HashSeed()) + 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

uint64_t HashText(std::string_view text) { return Mix(std::hash<std::string_view>{}(text)); }

uint64_t HashInt(Int value) {
  return Mix(static_cast<uint64_t>(value) ^ Mix(static_cast<uint64_t>(value >> 64)));
}

// A container one level above `inner`; throws when that is too deep.
void Nest(Object* outer, const Value& inner) {
  if (!inner.is_object()) return;
  const unsigned nesting = inner.object()->nesting + 1U;
  if (nesting <= outer->nesting) return;
  if (nesting > kMaxNesting) {
    outer->runtime->FailLimit("values nested deeper than " + std::to_string(kMaxNesting));
  }
  outer->nesting = static_cast<uint16_t>(nesting);
}

void StepOf(const Value& value) {
  if (value.is_object() && value.object()->runtime != nullptr) value.object()->runtime->Step();
}

bool EqualItems(const Values& a, const Values& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), Equal);
}

bool EqualDicts(const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.Find(key);
    if (other == nullptr || !Equal(value, *other)) return false;
  }
  return true;
}

bool EqualRanges(const Range& a, const Range& b) {
  if (a.count != b.count) return false;
  if (a.count == 0) return true;
  return a.start == b.start && (a.count == 1 || a.step == b.step);
}

bool EqualViews(const View& a, const View& b) {
  if (a.kind == ViewKind::kValues || a.kind != b.kind) return false;
  const Dict& left = a.dict();
  const Dict& right = b.dict();
  if (a.kind == ViewKind::kItems) return EqualDicts(left, right);
  if (left.entries.size() != right.entries.size()) return false;
  return std::all_of(left.entries.begin(), left.entries.end(),
                     [&](const auto& entry) { return right.Find(entry.first) != nullptr; });
}

bool EqualNumbers(const Value& a, const Value& b) {
  if (!a.is_float() && !b.is_float()) return a.int_value() == b.int_value();
  if (a.is_float() && b.is_float()) return a.float_value() == b.float_value();
  const double f = a.is_float() ? a.float_value() : b.float_value();
  const Int i = a.is_float() ? b.int_value() : a.int_value();
  return std::abs(f) < 0x1p126 && std::trunc(f) == f && static_cast<Int>(f) == i;
}

}  // namespace

Object::Object(Type object_type, Runtime* owner, size_t payload_bytes)
    : type(object_type), runtime(owner), charged(payload_bytes + 64) {
  if (runtime != nullptr) runtime->Charge(charged);
}
Object::~Object() {
  if (runtime != nullptr) runtime->Release(charged);
}

Int Value::int_value() const { return type_ == Type::kWideInt ? As<WideInt>(*this).value : int_; }

double Value::number() const { return is_float() ? float_ : static_cast<double>(int_value()); }

Str::Str(Runtime* owner, std::string text_in, bool markup_in)
    : Object(Type::kStr, owner, text_in.capacity() + sizeof(Str)),
      text(std::move(text_in)),
      length(CountCodePoints(text)),
      markup(markup_in) {}

List::List(Runtime* owner, Type list_type, Values items_in)
    : Object(list_type, owner, items_in.capacity() * sizeof(Value)), items(std::move(items_in)) {
  for (const Value& item : items) Nest(this, item);
}

View::View(Runtime* owner, Value of, ViewKind view_kind)
    : Object(Type::kView, owner, 0), source(std::move(of)), kind(view_kind) {
  Nest(this, source);
}

Namespace::Namespace(Runtime* owner)
    : Object(Type::kNamespace, owner, 0), attributes(new Dict(owner)) {}

Iterator::Iterator(Runtime* owner, const char* python_type, const Value& source)
    : Object(Type::kIterator, owner, 64), type_name(python_type) {
  Nest(this, source);
}

Method::Method(Runtime* owner, Value object, const char* python_name, Builtin body)
    : Object(Type::kMethod, owner, 0), self(std::move(object)), name(python_name), call(body) {
  Nest(this, self);
}

Cycler::Cycler(Runtime* owner, Values values)
    : Object(Type::kCycler, owner, values.capacity() * sizeof(Value)), items(std::move(values)) {
  for (const Value& item : items) Nest(this, item);
}

Joiner::Joiner(Runtime* owner, Value with)
    : Object(Type::kJoiner, owner, 0), separator(std::move(with)) {
  Nest(this, separator);
}

size_t Dict::Slot(const Value& key, uint64_t hash) const {
  const size_t mask = table_.size() - 1;
  size_t slot = hash & mask;
  while (table_[slot] != 0 && !Equal(entries[table_[slot] - 1].first, key))
    slot = (slot + 1) & mask;
  return slot;
}

void Dict::Rehash() {
  table_.assign(std::max<size_t>(32, table_.size() * 2), 0);
  for (size_t i = 0; i < entries.size(); ++i) {
    table_[Slot(entries[i].first, Hash(entries[i].first))] = static_cast<uint32_t>(i + 1);
  }
}

const Value* Dict::Find(const Value& key) const {
  if (table_.empty()) {
    for (const auto& [k, v] : entries) {
      if (Equal(k, key)) return &v;
    }
    return nullptr;
  }
  const size_t slot = Slot(key, Hash(key));
  return table_[slot] == 0 ? nullptr : &entries[table_[slot] - 1].second;
}

const Value* Dict::Find(std::string_view key) const {
  if (table_.empty()) {
    for (const auto& [k, v] : entries) {
      if (k.is_str() && Text(k) == key) return &v;
    }
    return nullptr;
  }
  const size_t mask = table_.size() - 1;
  for (size_t slot = HashText(key) & mask; table_[slot] != 0; slot = (slot + 1) & mask) {
    const auto& [k, v] = entries[table_[slot] - 1];
    if (k.is_str() && Text(k) == key) return &v;
  }
  return nullptr;
}

void Dict::Set(Value key, Value value) {
  if (const Value* found = Find(key)) {
    *const_cast<Value*>(found) = std::move(value);
    return;
  }
  Nest(this, key);
  Nest(this, value);
  constexpr size_t kEntryBytes = 2 * sizeof(Value) + 8;
  if (runtime != nullptr) runtime->Charge(kEntryBytes);
  charged += kEntryBytes;
  entries.emplace_back(std::move(key), std::move(value));
  if (entries.size() <= kSmallDict) return;
  if (entries.size() * 2 > table_.size()) {
    Rehash();
  } else {
    table_[Slot(entries.back().first, Hash(entries.back().first))] =
        static_cast<uint32_t>(entries.size());
  }
}

bool IsHashable(const Value& value) {
  StepOf(value);
  switch (value.type()) {
    case Type::kList:
    case Type::kDict:
      return false;
    case Type::kView:
      return As<View>(value).kind == ViewKind::kValues;
    case Type::kTuple:
      return std::all_of(Items(value).begin(), Items(value).end(), IsHashable);
    default:
      return true;
  }
}

uint64_t Hash(const Value& value) {
  StepOf(value);
  switch (value.type()) {
    case Type::kMissing:
    case Type::kNone:
      return Mix(1);
    case Type::kBool:
    case Type::kInt:
      return HashInt(value.int_value());
    case Type::kFloat: {
      const double f = value.float_value();
      if (std::abs(f) < 0x1p126 && std::trunc(f) == f) return HashInt(static_cast<Int>(f));
      return Mix(std::hash<double>{}(f));
    }
    case Type::kStr:
      return HashText(Text(value));
    case Type::kUndefined:
      return Mix(2);
    case Type::kTuple: {
      uint64_t hash = 3;
      for (const Value& item : Items(value)) hash = Mix(hash) ^ Hash(item);
      return hash;
    }
    case Type::kRange:
      return HashInt(As<Range>(value).count);
    default:
      return Mix(reinterpret_cast<uintptr_t>(value.object()));
  }
}

bool Equal(const Value& a, const Value& b) {
  StepOf(a);
  if (a.is_number() || b.is_number()) return a.is_number() && b.is_number() && EqualNumbers(a, b);
  if (a.type() != b.type()) return false;
  if (!a.is_object() || a.SameObject(b)) return true;  // None; the very same object
  switch (a.type()) {
    case Type::kStr:
      return Text(a) == Text(b);
    case Type::kUndefined:
      return true;
    case Type::kList:
    case Type::kTuple:
      return EqualItems(Items(a), Items(b));
    case Type::kDict:
      return EqualDicts(As<Dict>(a), As<Dict>(b));
    case Type::kRange:
      return EqualRanges(As<Range>(a), As<Range>(b));
    case Type::kView:
      return EqualViews(As<View>(a), As<View>(b));
    case Type::kMethod:
      return As<Method>(a).call == As<Method>(b).call &&
             As<Method>(a).self.SameObject(As<Method>(b).self);
    default:
      return false;
  }
}

int64_t Length(const Value& value) {
  switch (value.type()) {
    case Type::kStr:
      return static_cast<int64_t>(As<Str>(value).length);
    case Type::kList:
    case Type::kTuple:
      return static_cast<int64_t>(Items(value).size());
    case Type::kDict:
      return static_cast<int64_t>(As<Dict>(value).entries.size());
    case Type::kView:
      return static_cast<int64_t>(As<View>(value).dict().entries.size());
    case Type::kRange:
      return As<Range>(value).count;
    case Type::kUndefined:
      return 0;
    default:
      return -1;
  }
}

bool Truthy(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kNone:
    case Type::kUndefined:
      return false;
    case Type::kBool:
      return value.bool_value();
    case Type::kInt:
      return value.int_value() != 0;
    case Type::kFloat:
      return value.float_value() != 0;
    default:
      return Length(value) != 0;
  }
}

const char* TypeName(Type type) {
  constexpr const char* kNames[kTypeCount] = {
      "missing",     "NoneType",  "bool",      "int",   "float",    "int",
      "Undefined",   "str",       "list",      "tuple", "dict",     "range",
      "dict_items",  "Namespace", "generator", "Macro", "function", "builtin_function_or_method",
      "LoopContext", "Cycler",    "Joiner"};
  return kNames[static_cast<size_t>(type)];
}

const char* TypeName(const Value& value) {
  if (value.type() == Type::kIterator) return As<Iterator>(value).type_name;
  if (value.type() == Type::kStr && As<Str>(value).markup) return "Markup";
  if (value.type() == Type::kView) {
    const ViewKind kind = As<View>(value).kind;
    return kind == ViewKind::kKeys     ? "dict_keys"
           : kind == ViewKind::kValues ? "dict_values"
                                       : "dict_items";
  }
  return TypeName(value.type());
}

}  // namespace apr::jinja
