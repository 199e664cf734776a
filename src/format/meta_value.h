// One metadata value of a model file, in GGUF's types; .apr's JSON is mapped onto them. A value
// borrows its bytes (from the mapping, or from storage that ModelFile or MetaBuilder owns), so that a
// vocabulary of 150,000 entries costs nothing until somebody asks for it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"

namespace apr {

class MetaValue {
 public:
  enum class Type {
    kU8, kI8, kU16, kI16, kU32, kI32, kU64, kI64, kF32, kF64, kBool, kString, kArray, kJson
  };

  Type type() const { return type_; }
  bool is_number() const { return type_ <= Type::kF64; }
  bool is_integer() const { return type_ <= Type::kI64; }

  // nullopt when the type does not fit (no silent conversion of strings; integers widen to double).
  std::optional<int64_t> AsInt() const;
  std::optional<uint64_t> AsUnsigned() const;
  std::optional<double> AsDouble() const;
  std::optional<bool> AsBool() const;
  std::optional<std::string_view> AsString() const;
  // kJson: the text of a nested value, "null" included.
  std::optional<std::string_view> AsJsonText() const;

  // Arrays. element_type() and size() cost nothing; the getters decode. Strings are views into what
  // the value borrows from.
  Type element_type() const { return element_type_; }
  uint64_t size() const { return count_; }
  std::vector<std::string_view> AsStrings() const;  // empty if not an array of strings
  std::vector<double> AsDoubles() const;            // array of numbers, else empty
  std::vector<int64_t> AsInts() const;              // array of integers or bools, else empty
  std::vector<float> AsFloats() const;              // array of numbers, else empty
  std::vector<MetaValue> AsArrays() const;          // array of arrays, else empty
  // The encoded elements of an array, as GGUF lays them out.
  Bytes array_bytes() const { return bytes_; }

  // For printing: scalars in full, arrays as their first `limit` elements and a count.
  std::string ToString(size_t limit = 8) const;

  // `value` holds uint64_t for unsigned types, int64_t for signed ones.
  static MetaValue Scalar(Type type, std::variant<int64_t, uint64_t, double, bool> value);
  static MetaValue String(std::string_view borrowed);
  static MetaValue JsonText(std::string_view borrowed);
  // `bytes`: the encoded elements as GGUF lays them out, already validated.
  static MetaValue Array(Type element, uint64_t count, Bytes bytes);

 private:
  std::string ArrayToString(size_t limit) const;

  Type type_ = Type::kBool;
  Type element_type_ = Type::kU8;
  uint64_t count_ = 0;
  std::variant<int64_t, uint64_t, double, bool> scalar_;
  std::string_view text_;
  Bytes bytes_;
};

using MetaList = std::vector<std::pair<std::string, MetaValue>>;

const char* MetaTypeName(MetaValue::Type type);  // "u32", "str", "arr"
// Bytes of one element of a fixed-size type; 0 for strings, arrays and JSON.
uint32_t MetaTypeBytes(MetaValue::Type type);
// GGUF's number of a type and back. kJson has none.
std::optional<uint32_t> GgufIdOfMetaType(MetaValue::Type type);
std::optional<MetaValue::Type> MetaTypeFromGgufId(uint32_t id);

// A list of metadata that owns its text and arrays. Setting a key again replaces the value in place.
class MetaBuilder {
 public:
  void Set(std::string_view key, const MetaValue& borrowed_value);  // copies what it borrows
  void SetString(std::string_view key, std::string_view value);
  void SetJsonText(std::string_view key, std::string_view text);
  void SetBool(std::string_view key, bool value);
  void SetU32(std::string_view key, uint32_t value);
  void SetU64(std::string_view key, uint64_t value);
  void SetI64(std::string_view key, int64_t value);
  void SetF32(std::string_view key, float value);
  void SetF64(std::string_view key, double value);
  void SetStrings(std::string_view key, const std::vector<std::string_view>& values);
  void SetF32s(std::string_view key, const std::vector<float>& values);
  void SetF64s(std::string_view key, const std::vector<double>& values);
  void SetI32s(std::string_view key, const std::vector<int32_t>& values);
  void SetI64s(std::string_view key, const std::vector<int64_t>& values);
  void SetBools(std::string_view key, const std::vector<bool>& values);
  void Remove(std::string_view key);

  // Values stay valid as long as this builder or a copy of storage() lives.
  const MetaList& list() const { return list_; }
  const std::vector<std::shared_ptr<const void>>& storage() const { return storage_; }

 private:
  std::string_view Own(std::string text);
  void Put(std::string_view key, MetaValue value);

  MetaList list_;
  std::unordered_map<std::string, size_t> place_;  // key -> index into list_
  std::vector<std::shared_ptr<const void>> storage_;
};

}  // namespace apr
