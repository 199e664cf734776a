// See config_reader.h.
#include "model/config_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "model/unread_keys.h"

namespace apr {
namespace {

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = text.find(separator);
    out.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return out;
}

// A null, false, zero-length or empty setting switches nothing on.
bool SaysNothing(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) || (value.is_structured() && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

// GGUF key groups that do not describe the forward pass.
bool IsHarmlessGguf(std::string_view key) {
  for (const std::string_view prefix : {"general.", "tokenizer.", "split.", "quantize.", "GGUF.", "imatrix.", "apr.file."}) {
    if (key.substr(0, prefix.size()) == prefix) return true;
  }
  return false;
}

// What `path` ("a.b") leads to from `at`, null values included; nullptr if nothing stands there.
const Json* Step(const Json* at, std::string_view path) {
  for (const std::string_view step : Split(path, '.')) {
    if (at == nullptr || !at->is_object()) return nullptr;
    const auto it = at->find(std::string(step));
    if (it == at->end()) return nullptr;
    at = &*it;
  }
  return at;
}

// .apr keys that do not: provenance, tokenizer, and copies of what stands elsewhere
// (docs/formats/apr.md).
bool IsHarmlessApr(std::string_view key) {
  static constexpr std::string_view kKeys[] = {
      "architecture", "hf_architecture", "hf_model_type", "total_size", "param_count", "license", "data_source", "data_license",
      "name", "description", "author", "version", "source", "original_format", "created_at", "chat_template", "chat_format",
      "quantization", "sharding", "special_tokens", "source_metadata", "tensor_shapes", "rope_type"};
  return key.starts_with("tokenizer.") || key.starts_with("model.") || std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

bool SaysNothing(const MetaValue& value) {
  const auto json = value.AsJsonText();
  return (json && (*json == "null" || *json == "{}" || *json == "[]")) || value.AsBool() == false ||
         (value.type() == MetaValue::Type::kString && value.AsString()->empty()) ||
         (value.type() == MetaValue::Type::kArray && value.size() == 0);
}

// The decimal number that was meant by a value stored in single precision: 1e-6, not
// 9.99999997475242707e-07, which no configuration says.
double AsWritten(float value) {
  const std::string text = fmt::format("{}", value);
  double out = value;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
}

std::string FileLabel(const ModelFile& file) {
  switch (file.container()) {
    case Container::kGguf: return "gguf";
    case Container::kApr: return "apr";
    case Container::kSafetensors: return "config.json";
  }
  return "?";
}

}  // namespace

ConfigReader::ConfigReader(const ModelFile& file, ModelConfig& out, std::string_view class_defaults)
    : file_(file), out_(out), defaults_(ParseJson(class_defaults, "class defaults")) {
  if (!is_gguf()) return;
  if (const MetaValue* name = file.Meta("general.architecture")) {
    if (const auto text = name->AsString()) prefix_ = std::string(*text) + ".";
  }
}

const Json* ConfigReader::FindJson(std::string_view path) const {
  const Json* at = Step(file_.config(), path);
  return at == nullptr || at->is_null() ? nullptr : at;
}

const Json* ConfigReader::FindDefault(const ConfigKey& key) {
  for (const std::string_view path : Split(key.hf, '|')) {
    // null switches off what the class has by default; rope parameters are replaced as a whole.
    if (const Json* stated = Step(file_.config(), path); stated != nullptr) return nullptr;
    const bool rope = path.substr(0, 16) == "rope_parameters.";
    if (rope && (FindJson("rope_parameters") != nullptr || FindJson("rope_scaling") != nullptr)) continue;
    const Json* value = Step(&defaults_, path);
    if (value == nullptr) continue;
    key_ = std::string(path);
    origin_ = fmt::format("rule: {}, the default of the configuration class", path);
    return value;
  }
  return nullptr;
}

const Json* ConfigReader::Descend(const Json* at, std::string_view path) {
  for (const std::string_view step : Split(path, '.')) {
    if (at == nullptr || !at->is_object()) return nullptr;
    const auto it = at->find(std::string(step));
    if (it == at->end() || it->is_null()) return nullptr;
    at = &*it;
  }
  return at;
}

// What .apr keeps as nested JSON under its top-level key.
const Json* ConfigReader::FindNested(const ConfigKey& key) {
  if (!is_apr()) return nullptr;
  for (const std::string_view path : Split(key.hf, '|')) {
    const size_t dot = path.find('.');
    if (dot == std::string_view::npos) continue;
    const std::string top(path.substr(0, dot));
    const MetaValue* value = file_.Meta(top);
    if (value == nullptr || value->type() != MetaValue::Type::kJson) continue;
    auto& tree = nested_[top];
    if (tree == nullptr) tree = std::make_shared<const Json>(ParseJson(*value->AsJsonText(), file_.path()));
    if (const Json* found = Descend(tree.get(), path.substr(dot + 1))) {
      read_.insert(std::string(path));
      key_ = std::string(path);
      origin_ = fmt::format("apr: {}", path);
      return found;
    }
  }
  return nullptr;
}

const Json* ConfigReader::FindHf(const ConfigKey& key) {
  if (const Json* nested = FindNested(key)) return nested;
  if (file_.container() != Container::kSafetensors || file_.config() == nullptr) return nullptr;
  for (const std::string_view path : Split(key.hf, '|')) {
    if (const Json* value = FindJson(path)) {
      // Other spellings that say the same are read too; one that contradicts stays unread.
      for (const std::string_view other : Split(key.hf, '|')) {
        const Json* same = FindJson(other);
        if (same != nullptr && *same == *value) read_.insert(std::string(other));
      }
      key_ = std::string(path);
      origin_ = fmt::format("config.json: {}", path);
      return value;
    }
  }
  return FindDefault(key);
}

const MetaValue* ConfigReader::FindMeta(const ConfigKey& key) {
  std::vector<std::string> names;
  if (is_gguf()) {
    // What GGUF has no standard key for travels under the Hugging Face name.
    if (!key.hf.empty()) names.push_back("apr." + std::string(Split(key.hf, '|').front()));
    for (const std::string_view name : Split(key.gguf, '|')) {
      names.push_back(name.front() == '/' ? std::string(name.substr(1)) : prefix_ + std::string(name));
    }
  } else if (is_apr()) {
    for (const std::string_view name : Split(key.apr, '|')) names.emplace_back(name);
    for (const std::string_view name : Split(key.hf, '|')) names.emplace_back(name);
  }
  for (const std::string& name : names) {
    if (const MetaValue* value = file_.Meta(name)) {
      read_.insert(name);
      key_ = name;
      origin_ = fmt::format("{}: {}", FileLabel(file_), name);
      return value;
    }
  }
  return nullptr;
}

void ConfigReader::WrongKind(const char* wanted) const {
  throw Error(ErrorCode::kInvalidFormat, fmt::format("{} is not {}", key_, wanted), {.file = file_.path(), .tensor = key_});
}

bool ConfigReader::Has(const ConfigKey& key) const {
  ConfigReader probe = *this;
  return probe.FindHf(key) != nullptr || probe.FindMeta(key) != nullptr;
}

std::optional<double> ConfigReader::Real(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_number()) WrongKind("a number");
    return value->get<double>();
  }
  if (const MetaValue* value = FindMeta(key)) {
    const auto number = value->AsDouble();
    if (!number) WrongKind("a number");
    return value->type() == MetaValue::Type::kF32 ? AsWritten(static_cast<float>(*number)) : *number;
  }
  return std::nullopt;
}

std::optional<int64_t> ConfigReader::Int(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (value->is_number_integer()) return value->get<int64_t>();
    if (value->is_number_float() && value->get<double>() == std::floor(value->get<double>()) &&
        std::abs(value->get<double>()) < 1e15) {
      return static_cast<int64_t>(value->get<double>());
    }
    WrongKind("an integer");
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (const auto number = value->AsInt()) return number;
    // Some writers store per-layer counts as arrays; equal entries are one count.
    const std::vector<int64_t> all = value->AsInts();
    if (!all.empty() && std::all_of(all.begin(), all.end(), [&](int64_t v) { return v == all[0]; })) return all[0];
    WrongKind("an integer, or one integer for all layers");
  }
  return std::nullopt;
}

std::optional<bool> ConfigReader::Bool(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_boolean()) WrongKind("true or false");
    return value->get<bool>();
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (const auto flag = value->AsBool()) return flag;
    WrongKind("true or false");
  }
  return std::nullopt;
}

std::optional<std::string> ConfigReader::Text(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_string()) WrongKind("a string");
    return value->get<std::string>();
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (const auto text = value->AsString()) return std::string(*text);
    WrongKind("a string");
  }
  return std::nullopt;
}

std::optional<std::vector<double>> ConfigReader::Reals(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_array()) WrongKind("a list of numbers");
    std::vector<double> out;
    for (const Json& item : *value) {
      if (item.is_boolean()) out.push_back(item.get<bool>() ? 1 : 0);
      else if (item.is_number()) out.push_back(item.get<double>());
      else WrongKind("a list of numbers");
    }
    return out;
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (value->type() == MetaValue::Type::kArray) {
      std::vector<double> out = value->AsDoubles();
      if (value->element_type() == MetaValue::Type::kBool) {
        for (const int64_t flag : value->AsInts()) out.push_back(static_cast<double>(flag));
      }
      if (value->element_type() == MetaValue::Type::kF32) {
        for (double& number : out) number = AsWritten(static_cast<float>(number));
      }
      return out;
    }
    if (value->type() == MetaValue::Type::kJson) {
      const Json list = ParseJson(*value->AsJsonText(), file_.path());
      if (list.is_array()) return list.get<std::vector<double>>();
    }
    WrongKind("a list of numbers");
  }
  return std::nullopt;
}

bool ConfigReader::IsList(const ConfigKey& key) {
  ConfigReader probe = *this;
  if (const Json* value = probe.FindHf(key)) return value->is_array();
  const MetaValue* value = probe.FindMeta(key);
  return value != nullptr && value->type() == MetaValue::Type::kArray;
}

std::optional<std::vector<std::string>> ConfigReader::Texts(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_array()) WrongKind("a list of strings");
    std::vector<std::string> out;
    for (const Json& item : *value) {
      if (!item.is_string()) WrongKind("a list of strings");
      out.push_back(item.get<std::string>());
    }
    return out;
  }
  if (const MetaValue* value = FindMeta(key)) {
    const std::vector<std::string_view> all = value->AsStrings();
    return std::vector<std::string>(all.begin(), all.end());
  }
  return std::nullopt;
}

int64_t ConfigReader::RequiredSize(const ConfigKey& key, int64_t limit) {
  const std::optional<int64_t> value = Int(key);
  if (!value) {
    const std::string_view name = is_gguf() && !key.gguf.empty() ? key.gguf : key.hf;
    throw Error(ErrorCode::kModelLoad, fmt::format("{} is missing", Split(name, '|').front()),
                {.file = file_.path(), .tensor = std::string(Split(name, '|').front())});
  }
  if (*value < 1 || *value > limit) {
    throw Error(ErrorCode::kModelLoad, fmt::format("{} = {} is not in 1 .. {}", key_, *value, limit),
                {.file = file_.path(), .tensor = key_});
  }
  return *value;
}

double ConfigReader::RequiredReal(const ConfigKey& key) {
  const std::optional<double> value = Real(key);
  if (value && std::isfinite(*value)) return *value;
  const std::string name(Split(is_gguf() && !key.gguf.empty() ? key.gguf : key.hf, '|').front());
  throw Error(ErrorCode::kModelLoad, fmt::format("{} is {}", name, value ? "not finite" : "missing"),
              {.file = file_.path(), .tensor = name});
}

void ConfigReader::Note(std::string field, std::string value, std::string origin) {
  out_.sources.push_back({std::move(field), std::move(value), std::move(origin)});
}
void ConfigReader::Note(const char* field, double value) { Note(field, fmt::format("{}", value), origin_); }
void ConfigReader::NoteRule(const char* field, std::string value, std::string rule) {
  Note(field, std::move(value), "rule: " + std::move(rule));
}

std::vector<std::string> ConfigReader::UnreadKeys() const {
  std::vector<std::string> out;
  const auto was_read = [&](const std::string& key) { return read_.count(key) > 0; };
  if (file_.container() == Container::kSafetensors) {
    if (file_.config() == nullptr || !file_.config()->is_object()) return out;
    for (const auto& [key, value] : file_.config()->items()) {
      if (was_read(key) || IsBookkeeping(key) || SaysNothing(value)) continue;
      const std::string prefix = key + ".";
      const bool inside = value.is_object() && std::any_of(read_.begin(), read_.end(), [&](const std::string& r) {
        return r.rfind(prefix, 0) == 0;
      });
      if (!inside) out.push_back(key);
    }
  } else if (is_gguf()) {
    for (const auto& [key, value] : file_.metadata()) {
      if (!was_read(key) && !IsHarmlessGguf(key)) out.push_back(key);
    }
  } else {
    for (const auto& [key, value] : file_.metadata()) {
      const auto inside = read_.lower_bound(key + ".");
      const bool partly = inside != read_.end() && inside->starts_with(key + ".");
      if (!was_read(key) && !partly && !IsBookkeeping(key) && !IsHarmlessApr(key) && !SaysNothing(value)) out.push_back(key);
    }
  }
  return out;
}

}  // namespace apr
