// See apr_metadata.h.
#include "format/apr_metadata.h"

#include <fmt/format.h>

#include <optional>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "format/container_checks.h"
#include "format/simd_json.h"

namespace apr {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

// The one kind that all elements share; DOUBLE for a mix of numbers; nullopt for any other mix.
std::optional<element_type> CommonType(simdjson::dom::array array) {
  std::optional<element_type> common;
  for (const element child : array) {
    element_type type = child.type();
    if (!common) common = type;
    if (*common == type) continue;
    const auto is_number = [](element_type t) {
      return t == element_type::INT64 || t == element_type::UINT64 || t == element_type::DOUBLE;
    };
    if (!is_number(type) || !is_number(*common)) return std::nullopt;
    common = element_type::DOUBLE;
  }
  return common;
}

template <typename T>
std::vector<T> Collect(simdjson::dom::array array) {
  std::vector<T> out;
  for (const element child : array) {
    T value{};
    if constexpr (std::is_same_v<T, double>) {
      value = child.is_double() ? double(child)
              : child.is_int64() ? static_cast<double>(int64_t(child))
                                 : static_cast<double>(uint64_t(child));
    } else {
      value = T(child);
    }
    out.push_back(value);
  }
  return out;
}

void SetText(std::string_view key, element value, MetaBuilder* out) {
  const std::string text = simdjson::minify(value);
  out->SetJsonText(key, text);
}

void SetArray(std::string_view key, simdjson::dom::array array, element value, MetaBuilder* out) {
  const std::optional<element_type> common = CommonType(array);
  if (!common) return SetText(key, value, out);
  switch (*common) {
    case element_type::STRING: return out->SetStrings(key, Collect<std::string_view>(array));
    case element_type::INT64: return out->SetI64s(key, Collect<int64_t>(array));
    case element_type::DOUBLE: return out->SetF64s(key, Collect<double>(array));
    case element_type::BOOL: {
      std::vector<bool> values;
      for (const element child : array) values.push_back(bool(child));
      return out->SetBools(key, values);
    }
    default: return SetText(key, value, out);
  }
}

void SetValue(std::string_view key, element value, MetaBuilder* out) {
  switch (value.type()) {
    case element_type::STRING: return out->SetString(key, std::string_view(value));
    case element_type::INT64: return out->SetI64(key, int64_t(value));
    case element_type::UINT64: return out->SetU64(key, uint64_t(value));
    case element_type::DOUBLE: return out->SetF64(key, double(value));
    case element_type::BOOL: return out->SetBool(key, bool(value));
    case element_type::ARRAY: return SetArray(key, simdjson::dom::array(value), value, out);
    default: return SetText(key, value, out);
  }
}

}  // namespace

MetaBuilder ParseAprMetadata(std::string_view text, const std::string& file, uint64_t offset) {
  simdjson::dom::parser parser;
  const element root = ParseWithSimdJson(
      &parser, {.text = text, .file = file, .offset = offset, .max_depth = 256});
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) {
    throw Error(ErrorCode::kInvalidFormat, "the metadata is not a JSON object",
                {.file = file, .offset = offset});
  }
  // A hostile file may have a million keys: find repeated ones by hash, before the builder's list.
  std::vector<std::pair<std::string_view, element>> entries;
  std::unordered_map<std::string_view, size_t> place;
  for (const auto [key, value] : object) {
    const auto [found, is_new] = place.emplace(key, entries.size());
    if (is_new) entries.emplace_back(key, value);
    else if (!value.is_null()) entries[found->second].second = value;
  }
  MetaBuilder out;
  for (const auto& [key, value] : entries) SetValue(key, value, &out);
  return out;
}

}  // namespace apr
