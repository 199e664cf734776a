// See json_schema_merge.h.
#include "generate/json_schema_merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/error.h"
#include "base/json.h"

namespace apr {
namespace {

constexpr int kMostMergeNesting = 64;
constexpr size_t kMostAlternatives = 1024;

const std::vector<std::string> kCarriedOut = {
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "minLength",
    "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "anyOf", "oneOf", "allOf", "$ref"};
const std::vector<std::string> kNotes = {"title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "$defs", "definitions",
                                         "deprecated", "readOnly", "writeOnly", "strict", "name", "contentEncoding", "contentMediaType",
                                         "discriminator"};  // says which of oneOf's alternatives holds, restricts nothing

bool Is(const std::vector<std::string>& list, const std::string& key) { return std::ranges::find(list, key) != list.end(); }

[[noreturn]] void Fail(const std::string& source, const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kInvalidFormat, what, {.file = source, .tensor = where});
}

struct Merger {
  const Json& root;
  const std::string& source;
  const std::string& where;

  // A value both schemas must allow: what one key asks of both.
  Json Key(const std::string& key, const Json& a, const Json& b, int depth) const {
    if (a == b) return a;
    if (key == "required") {
      Json out = a;
      for (const Json& name : b) {
        if (std::ranges::find(out, name) == out.end()) out.push_back(name);
      }
      return out;
    }
    if (key == "properties") {
      Json out = a;
      for (const auto& [name, value] : b.items()) out[name] = out.contains(name) ? Both(out[name], value, depth + 1) : value;
      return out;
    }
    if (key == "items" || key == "additionalProperties") return Both(a, b, depth + 1);
    if (key == "type" || key == "enum") return Common(key, a, b);
    if (key == "minimum" || key == "exclusiveMinimum" || key == "minLength" || key == "minItems") return Larger(a, b) ? a : b;
    if (key == "maximum" || key == "exclusiveMaximum" || key == "maxLength" || key == "maxItems") return Larger(a, b) ? b : a;
    Fail(source, where, fmt::format("two different '{}' cannot be merged", key));
  }

  static bool Larger(const Json& a, const Json& b) { return a.is_number() && b.is_number() && a.get<double>() > b.get<double>(); }

  Json Common(const std::string& key, const Json& a, const Json& b) const {
    const Json list_a = a.is_array() ? a : Json::array({a});
    const Json list_b = b.is_array() ? b : Json::array({b});
    Json out = Json::array();
    for (const Json& value : list_a) {
      if (std::ranges::find(list_b, value) != list_b.end()) out.push_back(value);
      else if (key == "type" && value == "number" && std::ranges::find(list_b, Json("integer")) != list_b.end()) out.push_back("integer");
      else if (key == "type" && value == "integer" && std::ranges::find(list_b, Json("number")) != list_b.end()) out.push_back("integer");
    }
    if (out.empty() && key == "type") Fail(source, where, "no type satisfies both schemas");
    return out;
  }

  Json Both(const Json& a, const Json& b, int depth) const {
    if (depth > kMostMergeNesting) Fail(source, where, "the schema is merged with itself without end");
    if (a == Json(true)) return b;
    if (b == Json(true)) return a;
    if (a == Json(false) || b == Json(false)) return Json(false);
    if (!a.is_object() || !b.is_object()) Fail(source, where, "a schema must be an object, true or false");
    Json out = a;
    for (const auto& [key, value] : b.items()) {
      if (Is(kNotes, key)) continue;
      if (key == "allOf" && out.contains("allOf")) {
        for (const Json& each : value) out["allOf"].push_back(each);
      } else if ((key == "anyOf" || key == "oneOf" || key == "$ref") && out.contains(key)) {
        out["allOf"].push_back(Json{{key, value}});
      } else {
        out[key] = out.contains(key) ? Key(key, out[key], value, depth) : value;
      }
    }
    return out;
  }

  // Appends the flat schemas of `schema`.
  void Flatten(const Json& schema, int depth, std::vector<Json>& out) const {
    if (depth > kMostMergeNesting) Fail(source, where, "the schema refers to itself without end");
    if (out.size() > kMostAlternatives) Fail(source, where, fmt::format("more than {} alternatives", kMostAlternatives));
    if (!schema.is_object()) {
      if (!schema.is_boolean()) Fail(source, where, "a schema must be an object, true or false");
      out.push_back(schema);
      return;
    }
    CheckSchemaKeys(schema, source, where);
    if (OnlyReference(schema)) {  // stays one, so that a schema may contain itself
      out.push_back(schema);
      return;
    }
    for (const char* key : {"$ref", "allOf", "anyOf", "oneOf"}) {
      if (!schema.contains(key)) continue;
      Json rest = schema;
      const Json part = schema[key];
      rest.erase(key);
      if (std::string_view(key) == "$ref") {
        if (!part.is_string()) Fail(source, where, "$ref must be a string");
        return Flatten(Both(rest, ResolveReference(part.get<std::string>(), root, source, where), 0), depth + 1, out);
      }
      if (!part.is_array() || part.empty()) Fail(source, where, fmt::format("{} must be a list of schemas", key));
      if (std::string_view(key) == "allOf") {
        for (const Json& each : part) rest = Both(rest, each, 0);
        return Flatten(rest, depth + 1, out);
      }
      for (const Json& each : part) Flatten(Both(rest, each, 0), depth + 1, out);
      return;
    }
    out.push_back(schema);
  }
};

}  // namespace

void CheckSchemaKeys(const Json& schema, const std::string& source, const std::string& where) {
  for (const auto& [key, value] : schema.items()) {
    if (!Is(kCarriedOut, key) && !Is(kNotes, key) && key.rfind("x-", 0) != 0) Fail(source, where, fmt::format("'{}' is not supported", key));
  }
}

std::optional<std::string> OnlyReference(const Json& schema) {
  if (!schema.contains("$ref") || !schema["$ref"].is_string()) return std::nullopt;
  for (const auto& [key, value] : schema.items()) {
    if (key != "$ref" && !Is(kNotes, key)) return std::nullopt;
  }
  return schema["$ref"].get<std::string>();
}

const Json& ResolveReference(const std::string& ref, const Json& root, const std::string& source, const std::string& where) {
  if (ref == "#") return root;
  if (ref.rfind("#/", 0) != 0) Fail(source, where, fmt::format("'{}' refers to another document", ref));
  const Json* at = &root;
  for (size_t begin = 2; begin <= ref.size();) {
    const size_t end = std::min(ref.find('/', begin), ref.size());
    std::string name = ref.substr(begin, end - begin);
    for (const auto& [escaped, plain] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}}) {
      for (size_t i = name.find(escaped); i != name.npos; i = name.find(escaped, i + 1)) name.replace(i, 2, plain);
    }
    size_t index = 0;
    const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool number = error == std::errc() && stop == name.data() + name.size();
    if (at->is_object() && at->contains(name)) at = &(*at)[name];
    else if (at->is_array() && number && index < at->size()) at = &(*at)[index];
    else Fail(source, where, fmt::format("'{}' is not in the schema", ref));
    begin = end + 1;
  }
  return *at;
}

std::vector<Json> FlattenSchema(const Json& schema, const Json& root, const std::string& source, const std::string& where) {
  std::vector<Json> out;
  Merger{root, source, where}.Flatten(schema, 0, out);
  return out;
}

std::vector<std::string> TypesOf(const Json& schema, const std::string& source, const std::string& where) {
  const auto has = [&](std::initializer_list<const char*> keys) {
    return std::ranges::any_of(keys, [&](const char* key) { return schema.contains(key); });
  };
  std::vector<std::string> out;
  if (schema.contains("type")) {
    const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
    for (const Json& type : types) {
      if (!type.is_string()) Fail(source, where, "type must be a name or a list of names");
      out.push_back(type.get<std::string>());
    }
    return out;
  }
  if (has({"properties", "required", "additionalProperties"})) out.push_back("object");
  if (has({"items", "prefixItems", "minItems", "maxItems"})) out.push_back("array");
  if (has({"minLength", "maxLength", "pattern", "format"})) out.push_back("string");
  if (has({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) out.push_back("number");
  return out;
}

}  // namespace apr
