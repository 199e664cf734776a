// Values of the template language: Python's None, bool, int, float, str, list, tuple, dict and the
// few objects that templates meet, immutable but for namespaces, counted by reference.
//
// Integers are kept in 128 bits; what does not fit is an error, never a wrong number. Every object
// is charged to the Runtime of its rendering (jinja_runtime.h), which bounds memory. Constants of a
// parsed template belong to no rendering, are never freed by counting, and may be shared by
// threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace apr::jinja {

class Runtime;

__extension__ typedef __int128 Int;
__extension__ typedef unsigned __int128 UnsignedInt;

enum class Type : uint8_t {
  kMissing,  // internal: no value, as an unset variable or argument
  kNone,
  kBool,
  kInt,
  kFloat,
  // From here on the value is an Object.
  kWideInt,  // an int beyond 64 bits; Value::type() says kInt
  kUndefined,
  kStr,
  kList,
  kTuple,
  kDict,
  kRange,
  kView,  // dict.keys(), .values(), .items()
  kNamespace,
  kIterator,  // generators and other one-pass sequences
  kMacro,
  kFunction,
  kMethod,
  kLoop,
  kCycler,
  kJoiner,
};
constexpr size_t kTypeCount = static_cast<size_t>(Type::kJoiner) + 1;

struct Object {
  // `owner` null: a constant of a template, which nobody counts. `payload_bytes` is what the object
  // holds beyond itself; both are given back on destruction.
  Object(Type object_type, Runtime* owner, size_t payload_bytes);
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  Type type;
  uint16_t nesting = 0;  // levels of containers below, bounded so that recursion over values is
  uint32_t references = 0;
  Runtime* runtime;
  size_t charged;
};

class Value {
 public:
  Value() : type_(Type::kMissing), int_(0) {}
  static Value None() { return Value(Type::kNone, 0); }
  static Value Bool(bool value) { return Value(Type::kBool, value ? 1 : 0); }
  static Value Int64(int64_t value) { return Value(Type::kInt, value); }
  static Value Size(size_t value) { return Int64(static_cast<int64_t>(value)); }
  static Value Float(double value) {
    Value v;
    v.type_ = Type::kFloat;
    v.float_ = value;
    return v;
  }
  explicit Value(Object* object) : type_(object->type), object_(object) { Add(); }

  Value(const Value& other) : type_(other.type_), int_(other.int_) {
    if (is_object()) Add();
  }
  Value(Value&& other) noexcept : type_(other.type_), int_(other.int_) {
    other.type_ = Type::kMissing;
  }
  Value& operator=(Value other) noexcept {
    std::swap(type_, other.type_);
    std::swap(int_, other.int_);
    return *this;
  }
  ~Value() {
    if (is_object()) Drop();
  }

  Type type() const { return type_ == Type::kWideInt ? Type::kInt : type_; }
  bool is_object() const { return type_ >= Type::kWideInt; }
  bool is_missing() const { return type_ == Type::kMissing; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_bool() const { return type_ == Type::kBool; }
  bool is_float() const { return type_ == Type::kFloat; }
  bool is_str() const { return type_ == Type::kStr; }
  bool is_undefined() const { return type_ == Type::kUndefined; }
  bool is_int() const { return type() == Type::kInt; }
  bool is_integral() const { return is_bool() || is_int(); }  // int or bool
  bool is_number() const { return is_integral() || is_float(); }
  bool is_sequence() const { return type_ == Type::kList || type_ == Type::kTuple; }

  bool bool_value() const { return int_ != 0; }
  double float_value() const { return float_; }
  Int int_value() const;  // requires is_integral()
  double number() const;  // requires is_number()
  Object* object() const { return object_; }
  bool SameObject(const Value& other) const {
    return is_object() && other.is_object() && object_ == other.object_;
  }

 private:
  Value(Type type, int64_t value) : type_(type), int_(value) {}
  void Add() const {
    if (object_->runtime != nullptr) ++object_->references;
  }
  void Drop() const {
    if (object_->runtime != nullptr && --object_->references == 0) delete object_;
  }

  Type type_;
  union {
    int64_t int_;
    double float_;
    Object* object_;
  };
};

using Values = std::vector<Value>;

struct WideInt final : Object {
  WideInt(Runtime* owner, Int v) : Object(Type::kWideInt, owner, 0), value(v) {}
  Int value;
};

struct Str final : Object {
  Str(Runtime* owner, std::string text_in, bool markup_in);
  std::string text;
  size_t length;  // code points
  bool markup;    // marked safe for HTML: combining it with other text escapes that text
};

struct List final : Object {  // list and tuple
  List(Runtime* owner, Type list_type, Values items_in);
  Values items;
  bool is_group = false;  // a tuple of groupby: also has .grouper and .list
};

struct Dict final : Object {
  explicit Dict(Runtime* owner) : Object(Type::kDict, owner, 0) {}
  // nullptr when absent. The key must be hashable.
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  // Replaces the value of an equal key, whose place and spelling stay.
  void Set(Value key, Value value);
  std::vector<std::pair<Value, Value>> entries;  // in order of insertion

 private:
  size_t Slot(const Value& key, uint64_t hash) const;
  void Rehash();
  std::vector<uint32_t> table_;  // index + 1 into entries, open addressing; empty while small
};

struct Range final : Object {
  Range(Runtime* owner, int64_t first, int64_t stop_in, int64_t step_in, int64_t count_in)
      : Object(Type::kRange, owner, 0),
        start(first),
        stop(stop_in),
        step(step_in),
        count(count_in) {}
  int64_t start, stop, step, count;
  int64_t At(int64_t i) const { return start + i * step; }
};

enum class ViewKind : uint8_t { kKeys, kValues, kItems };
struct View final : Object {
  View(Runtime* owner, Value of, ViewKind view_kind);
  const Dict& dict() const { return *static_cast<const Dict*>(source.object()); }
  Value source;
  ViewKind kind;
};

// Printing gives ''; most other uses are errors, whose wording is made when it is needed.
struct Undefined final : Object {
  enum class Kind : uint8_t { kVariable, kAttribute, kHint, kUnsafe };
  Undefined(Runtime* owner, Kind undefined_kind, Value what, Type of)
      : Object(Type::kUndefined, owner, 0),
        kind(undefined_kind),
        name(std::move(what)),
        owner_type(of) {}
  Kind kind;
  Value name;       // the variable, attribute, element, or the whole hint
  Type owner_type;  // of the object that lacks it
};

struct Namespace final : Object {
  explicit Namespace(Runtime* owner);
  Value attributes;  // a Dict
  Dict& dict() { return *static_cast<Dict*>(attributes.object()); }
};

// One pass over values. Next gives false at the end.
struct Iterator : Object {
  Iterator(Runtime* owner, const char* python_type, const Value& source);
  virtual bool Next(Runtime& rt, Value* out) = 0;
  const char* type_name;
};

// Arguments of a call: positional, and by name (name is a Str).
struct CallArgs {
  Values positional;
  std::vector<std::pair<Value, Value>> named;
};

using Builtin = Value (*)(Runtime& rt, const Value& self, CallArgs& args);

struct Function final : Object {
  Function(Runtime* owner, const char* python_name, Builtin body)
      : Object(Type::kFunction, owner, 0), name(python_name), call(body) {}
  const char* name;
  Builtin call;
};

struct Method final : Object {
  Method(Runtime* owner, Value object, const char* python_name, Builtin body);
  Value self;
  const char* name;
  Builtin call;
};

struct Cycler final : Object {
  Cycler(Runtime* owner, Values values);
  Values items;
  size_t position = 0;
};

struct Joiner final : Object {
  Joiner(Runtime* owner, Value with);
  Value separator;
  bool used = false;
};

template <typename T>
T& As(const Value& value) {
  return *static_cast<T*>(value.object());
}
inline const std::string& Text(const Value& str) { return As<Str>(str).text; }
inline Values& Items(const Value& list_or_tuple) { return As<List>(list_or_tuple).items; }

// "str", "list", "NoneType", ... as Python's type names.
const char* TypeName(const Value& value);
const char* TypeName(Type type);

bool IsHashable(const Value& value);
uint64_t Hash(const Value& value);  // equal values have equal hashes; requires IsHashable
bool Equal(const Value& a, const Value& b);
bool Truthy(const Value& value);
// len(): nullopt-like -1 when the type has none.
int64_t Length(const Value& value);

// Python's str() and repr(). Charged to `rt`, bounded by its limits.
std::string ToStr(Runtime& rt, const Value& value);
void AppendStr(Runtime& rt, const Value& value, std::string* out);
std::string Repr(Runtime& rt, const Value& value);
std::string IntText(Int value);
std::string FloatText(double value);        // repr of a float
std::string QuoteText(std::string_view s);  // repr of a str

}  // namespace apr::jinja
