// See meta_value.h.
#include "format/meta_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace apr {
namespace {

using Type = MetaValue::Type;

struct TypeRow {
  Type type;
  const char* name;
  uint32_t bytes;
  int gguf_id;
};

// GGUF value type numbers: ggml docs/gguf.md, enum gguf_metadata_value_type.
constexpr TypeRow kTypes[] = {
    {Type::kU8, "u8", 1, 0},   {Type::kI8, "i8", 1, 1},    {Type::kU16, "u16", 2, 2},
    {Type::kI16, "i16", 2, 3}, {Type::kU32, "u32", 4, 4},  {Type::kI32, "i32", 4, 5},
    {Type::kU64, "u64", 8, 10}, {Type::kI64, "i64", 8, 11}, {Type::kF32, "f32", 4, 6},
    {Type::kF64, "f64", 8, 12}, {Type::kBool, "bool", 1, 7}, {Type::kString, "str", 0, 8},
    {Type::kArray, "arr", 0, 9}, {Type::kJson, "json", 0, -1},
};

const TypeRow& RowOf(Type type) { return kTypes[static_cast<size_t>(type)]; }

template <typename T>
std::vector<T> DecodeNumbers(Type type, uint64_t count, Bytes bytes) {
  std::vector<T> out(count);
  const std::byte* p = bytes.data();
  const auto fill = [&]<typename From>(From) {
    for (uint64_t i = 0; i < count; ++i) out[i] = static_cast<T>(LoadLe<From>(p + i * sizeof(From)));
  };
  switch (type) {
    case Type::kU8: case Type::kBool: fill(uint8_t{}); break;
    case Type::kI8: fill(int8_t{}); break;
    case Type::kU16: fill(uint16_t{}); break;
    case Type::kI16: fill(int16_t{}); break;
    case Type::kU32: fill(uint32_t{}); break;
    case Type::kI32: fill(int32_t{}); break;
    case Type::kU64: fill(uint64_t{}); break;
    case Type::kI64: fill(int64_t{}); break;
    case Type::kF32: fill(float{}); break;
    case Type::kF64: fill(double{}); break;
    default: return {};
  }
  return out;
}

MetaValue ScalarAt(Type type, const std::byte* p) {
  const Bytes one(p, MetaTypeBytes(type));
  if (type == Type::kBool) return MetaValue::Scalar(type, LoadLe<uint8_t>(p) != 0);
  if (type == Type::kU64) return MetaValue::Scalar(type, LoadLe<uint64_t>(p));
  if (type == Type::kF32) return MetaValue::Scalar(type, double{LoadLe<float>(p)});
  if (type == Type::kF64) return MetaValue::Scalar(type, LoadLe<double>(p));
  const int64_t value = DecodeNumbers<int64_t>(type, 1, one)[0];
  const bool is_unsigned = type == Type::kU8 || type == Type::kU16 || type == Type::kU32;
  if (is_unsigned) return MetaValue::Scalar(type, static_cast<uint64_t>(value));
  return MetaValue::Scalar(type, value);
}

// Length in bytes of one nested array (its header and payload) at the start of `bytes`; validated.
uint64_t NestedArrayBytes(Bytes bytes);

uint64_t PayloadBytes(Type type, uint64_t count, Bytes bytes) {
  if (const uint32_t size = MetaTypeBytes(type)) return count * size;
  uint64_t at = 0;
  for (uint64_t i = 0; i < count; ++i) {
    at += type == Type::kString ? 8 + LoadLe<uint64_t>(bytes.data() + at)
                                : NestedArrayBytes(bytes.subspan(at));
  }
  return at;
}

uint64_t NestedArrayBytes(Bytes bytes) {
  const auto type = MetaTypeFromGgufId(LoadLe<uint32_t>(bytes.data()));
  return 12 + PayloadBytes(*type, LoadLe<uint64_t>(bytes.data() + 4), bytes.subspan(12));
}

template <typename T>
std::string EncodeNumbers(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

}  // namespace

const char* MetaTypeName(Type type) { return RowOf(type).name; }
uint32_t MetaTypeBytes(Type type) { return RowOf(type).bytes; }

std::optional<uint32_t> GgufIdOfMetaType(Type type) {
  if (RowOf(type).gguf_id < 0) return std::nullopt;
  return static_cast<uint32_t>(RowOf(type).gguf_id);
}

std::optional<Type> MetaTypeFromGgufId(uint32_t id) {
  for (const TypeRow& row : kTypes) {
    if (row.gguf_id >= 0 && static_cast<uint32_t>(row.gguf_id) == id) return row.type;
  }
  return std::nullopt;
}

std::optional<int64_t> MetaValue::AsInt() const {
  if (!is_integer()) return std::nullopt;
  if (const auto* value = std::get_if<int64_t>(&scalar_)) return *value;
  const uint64_t value = std::get<uint64_t>(scalar_);
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::optional<uint64_t> MetaValue::AsUnsigned() const {
  if (!is_integer()) return std::nullopt;
  if (const auto* value = std::get_if<uint64_t>(&scalar_)) return *value;
  const int64_t value = std::get<int64_t>(scalar_);
  if (value < 0) return std::nullopt;
  return static_cast<uint64_t>(value);
}

std::optional<double> MetaValue::AsDouble() const {
  if (!is_number()) return std::nullopt;
  if (const auto* value = std::get_if<int64_t>(&scalar_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<uint64_t>(&scalar_)) return static_cast<double>(*value);
  return std::get<double>(scalar_);
}

std::optional<bool> MetaValue::AsBool() const {
  if (type_ != Type::kBool) return std::nullopt;
  return std::get<bool>(scalar_);
}

std::optional<std::string_view> MetaValue::AsString() const {
  if (type_ != Type::kString) return std::nullopt;
  return text_;
}

std::optional<std::string_view> MetaValue::AsJsonText() const {
  if (type_ != Type::kJson) return std::nullopt;
  return text_;
}

std::vector<std::string_view> MetaValue::AsStrings() const {
  if (type_ != Type::kArray || element_type_ != Type::kString) return {};
  std::vector<std::string_view> out(count_);
  const std::byte* p = bytes_.data();
  for (std::string_view& text : out) {
    const auto length = LoadLe<uint64_t>(p);
    text = {reinterpret_cast<const char*>(p + 8), static_cast<size_t>(length)};
    p += 8 + length;
  }
  return out;
}

std::vector<double> MetaValue::AsDoubles() const {
  if (type_ != Type::kArray || element_type_ > Type::kF64) return {};
  return DecodeNumbers<double>(element_type_, count_, bytes_);
}

std::vector<float> MetaValue::AsFloats() const {
  if (type_ != Type::kArray || element_type_ > Type::kF64) return {};
  return DecodeNumbers<float>(element_type_, count_, bytes_);
}

std::vector<int64_t> MetaValue::AsInts() const {
  const bool fits = element_type_ <= Type::kI64 || element_type_ == Type::kBool;
  if (type_ != Type::kArray || !fits) return {};
  return DecodeNumbers<int64_t>(element_type_, count_, bytes_);
}

std::vector<MetaValue> MetaValue::AsArrays() const {
  if (type_ != Type::kArray || element_type_ != Type::kArray) return {};
  std::vector<MetaValue> out;
  Bytes rest = bytes_;
  for (uint64_t i = 0; i < count_; ++i) {
    const uint64_t length = NestedArrayBytes(rest);
    out.push_back(Array(*MetaTypeFromGgufId(LoadLe<uint32_t>(rest.data())),
                        LoadLe<uint64_t>(rest.data() + 4), rest.subspan(12, length - 12)));
    rest = rest.subspan(length);
  }
  return out;
}

std::string MetaValue::ArrayToString(size_t limit) const {
  std::string out = "[";
  const uint64_t shown = std::min<uint64_t>(limit, count_);
  Bytes rest = bytes_;
  for (uint64_t i = 0; i < shown; ++i) {
    if (i > 0) out += ", ";
    const uint64_t length = PayloadBytes(element_type_, 1, rest);
    if (element_type_ == Type::kString) {
      out += fmt::format("\"{}\"", AsText(rest.subspan(8, length - 8)));
    } else if (element_type_ == Type::kArray) {
      const Type inner = *MetaTypeFromGgufId(LoadLe<uint32_t>(rest.data()));
      out += Array(inner, LoadLe<uint64_t>(rest.data() + 4), rest.subspan(12, length - 12))
                 .ToString(limit);
    } else {
      out += ScalarAt(element_type_, rest.data()).ToString();
    }
    rest = rest.subspan(length);
  }
  if (shown < count_) out += fmt::format("{}… {} in all", shown > 0 ? ", " : "", count_);
  return out + "]";
}

std::string MetaValue::ToString(size_t limit) const {
  switch (type_) {
    case Type::kString: case Type::kJson: return std::string(text_);
    case Type::kArray: return ArrayToString(limit);
    case Type::kBool: return std::get<bool>(scalar_) ? "true" : "false";
    case Type::kF32: return fmt::format("{}", static_cast<float>(std::get<double>(scalar_)));
    default: break;
  }
  return std::visit([](auto value) { return fmt::format("{}", value); }, scalar_);
}

MetaValue MetaValue::Scalar(Type type, std::variant<int64_t, uint64_t, double, bool> value) {
  MetaValue out;
  out.type_ = type;
  out.scalar_ = value;
  return out;
}

MetaValue MetaValue::String(std::string_view borrowed) {
  MetaValue out;
  out.type_ = Type::kString;
  out.text_ = borrowed;
  return out;
}

MetaValue MetaValue::JsonText(std::string_view borrowed) {
  MetaValue out = String(borrowed);
  out.type_ = Type::kJson;
  return out;
}

MetaValue MetaValue::Array(Type element, uint64_t count, Bytes bytes) {
  MetaValue out;
  out.type_ = Type::kArray;
  out.element_type_ = element;
  out.count_ = count;
  out.bytes_ = bytes;
  return out;
}

std::string_view MetaBuilder::Own(std::string text) {
  const auto owned = std::make_shared<const std::string>(std::move(text));
  storage_.push_back(owned);
  return *owned;
}

void MetaBuilder::Put(std::string_view key, MetaValue value) {
  const auto [found, is_new] = place_.emplace(std::string(key), list_.size());
  if (is_new) list_.emplace_back(std::string(key), value);
  else list_[found->second].second = value;
}

void MetaBuilder::Set(std::string_view key, const MetaValue& value) {
  switch (value.type()) {
    case Type::kString: return SetString(key, *value.AsString());
    case Type::kJson: return SetJsonText(key, *value.AsJsonText());
    case Type::kArray: {
      const std::string_view bytes = Own(std::string(AsText(value.array_bytes())));
      return Put(key, MetaValue::Array(value.element_type(), value.size(), AsBytes(bytes)));
    }
    default: return Put(key, value);
  }
}

void MetaBuilder::SetString(std::string_view key, std::string_view value) {
  Put(key, MetaValue::String(Own(std::string(value))));
}
void MetaBuilder::SetJsonText(std::string_view key, std::string_view text) {
  Put(key, MetaValue::JsonText(Own(std::string(text))));
}
void MetaBuilder::SetBool(std::string_view key, bool value) {
  Put(key, MetaValue::Scalar(Type::kBool, value));
}
void MetaBuilder::SetU32(std::string_view key, uint32_t value) {
  Put(key, MetaValue::Scalar(Type::kU32, uint64_t{value}));
}
void MetaBuilder::SetU64(std::string_view key, uint64_t value) {
  Put(key, MetaValue::Scalar(Type::kU64, value));
}
void MetaBuilder::SetI64(std::string_view key, int64_t value) {
  Put(key, MetaValue::Scalar(Type::kI64, value));
}
void MetaBuilder::SetF32(std::string_view key, float value) {
  Put(key, MetaValue::Scalar(Type::kF32, double{value}));
}
void MetaBuilder::SetF64(std::string_view key, double value) {
  Put(key, MetaValue::Scalar(Type::kF64, value));
}

void MetaBuilder::SetStrings(std::string_view key, const std::vector<std::string_view>& values) {
  std::string bytes;
  size_t total = 0;
  for (const std::string_view text : values) total += 8 + text.size();
  bytes.reserve(total);
  for (const std::string_view text : values) {
    char length[8];
    StoreLe<uint64_t>(length, text.size());
    bytes.append(length, sizeof length).append(text);
  }
  Put(key, MetaValue::Array(Type::kString, values.size(), AsBytes(Own(std::move(bytes)))));
}

void MetaBuilder::SetF32s(std::string_view key, const std::vector<float>& values) {
  Put(key, MetaValue::Array(Type::kF32, values.size(), AsBytes(Own(EncodeNumbers(values)))));
}
void MetaBuilder::SetF64s(std::string_view key, const std::vector<double>& values) {
  Put(key, MetaValue::Array(Type::kF64, values.size(), AsBytes(Own(EncodeNumbers(values)))));
}
void MetaBuilder::SetI32s(std::string_view key, const std::vector<int32_t>& values) {
  Put(key, MetaValue::Array(Type::kI32, values.size(), AsBytes(Own(EncodeNumbers(values)))));
}
void MetaBuilder::SetI64s(std::string_view key, const std::vector<int64_t>& values) {
  Put(key, MetaValue::Array(Type::kI64, values.size(), AsBytes(Own(EncodeNumbers(values)))));
}
void MetaBuilder::SetBools(std::string_view key, const std::vector<bool>& values) {
  std::string bytes;
  for (const bool value : values) bytes.push_back(value ? 1 : 0);
  Put(key, MetaValue::Array(Type::kBool, values.size(), AsBytes(Own(std::move(bytes)))));
}

void MetaBuilder::Remove(std::string_view key) {
  std::erase_if(list_, [&](const auto& entry) { return entry.first == key; });
  place_.clear();
  for (size_t i = 0; i < list_.size(); ++i) place_.emplace(list_[i].first, i);
}

}  // namespace apr
