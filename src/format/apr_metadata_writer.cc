// Metadata of an APR file as JSON text: see apr_metadata.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "format/apr_metadata.h"
#include "format/container_checks.h"
#include "format/tensor_writer.h"

namespace apr {
namespace {

using Type = MetaValue::Type;

// Written first and in this order, null when nobody said anything.
constexpr std::string_view kAlwaysWritten[] = {"model_type",  "total_size",  "param_count",
                                               "license",     "data_source", "data_license"};

std::string Quote(std::string_view text, const std::string& key, const std::string& file) {
  if (!IsValidUtf8(text)) RefuseToWrite(file, key, "the text is not UTF-8, which JSON must be");
  return DumpJson(Json(std::string(text)), -1);
}

// The shortest text that reads back as the same number, with a point or exponent so that it stays a
// floating-point number.
template <typename T>
std::string Number(T value, const std::string& key, const std::string& file) {
  if (!std::isfinite(value)) RefuseToWrite(file, key, "JSON cannot hold NaN or infinity");
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

template <typename Values, typename Format>
std::string Join(const Values& values, Format format) {
  std::string out = "[";
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ",";
    out += format(values[i]);
  }
  return out + "]";
}

std::string ArrayText(const MetaValue& value, const std::string& key, const std::string& file) {
  switch (value.element_type()) {
    case Type::kString:
      return Join(value.AsStrings(), [&](std::string_view s) { return Quote(s, key, file); });
    case Type::kF32: return Join(value.AsFloats(), [&](float x) { return Number(x, key, file); });
    case Type::kF64: return Join(value.AsDoubles(), [&](double x) { return Number(x, key, file); });
    case Type::kBool:
      return Join(value.AsInts(), [](int64_t x) { return std::string(x != 0 ? "true" : "false"); });
    case Type::kArray:
      return Join(value.AsArrays(), [&](const MetaValue& inner) { return ArrayText(inner, key, file); });
    case Type::kU64: {
      std::vector<uint64_t> values(value.size());
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = LoadLe<uint64_t>(value.array_bytes().data() + 8 * i);
      }
      return Join(values, [](uint64_t x) { return fmt::format("{}", x); });
    }
    default: return Join(value.AsInts(), [](int64_t x) { return fmt::format("{}", x); });
  }
}

std::string ValueText(const MetaValue& value, const std::string& key, const std::string& file) {
  switch (value.type()) {
    case Type::kString: return Quote(*value.AsString(), key, file);
    case Type::kJson: return std::string(*value.AsJsonText());
    case Type::kBool: return *value.AsBool() ? "true" : "false";
    case Type::kF32: return Number(static_cast<float>(*value.AsDouble()), key, file);
    case Type::kF64: return Number(*value.AsDouble(), key, file);
    case Type::kArray: return ArrayText(value, key, file);
    case Type::kU64: return fmt::format("{}", *value.AsUnsigned());
    default: return fmt::format("{}", *value.AsInt());
  }
}

bool IsAlwaysWritten(std::string_view key) {
  return std::ranges::find(kAlwaysWritten, key) != std::end(kAlwaysWritten);
}

}  // namespace

std::string FormatAprMetadata(const MetaList& metadata, const AprMetadataArgs& args) {
  std::string out = "{";
  const auto put = [&](std::string_view key, const std::string& text) {
    if (out.size() > 1) out += ',';
    out += Quote(key, std::string(key), args.file);
    out += ':';
    out += text;
  };
  for (const std::string_view key : kAlwaysWritten) {
    const auto given = std::ranges::find(metadata, key, [](const auto& e) { return e.first; });
    if (key == "total_size") put(key, fmt::format("{}", args.total_size));
    else if (key == "param_count") put(key, fmt::format("{}", args.param_count));
    else if (given != metadata.end()) put(key, ValueText(given->second, given->first, args.file));
    else put(key, key == "model_type" ? "\"unknown\"" : "null");
  }
  for (const auto& [key, value] : metadata) {
    if (!IsAlwaysWritten(key)) put(key, ValueText(value, key, args.file));
  }
  out += "}";
  // Values given as JSON text, or a key given twice, must not make a file that reads back differently.
  const MetaBuilder check = ParseAprMetadata(out, args.file, 0);
  size_t expected = std::size(kAlwaysWritten);
  for (const auto& entry : metadata) expected += IsAlwaysWritten(entry.first) ? 0 : 1;
  if (check.list().size() != expected) RefuseToWrite(args.file, "", "a metadata key is given twice");
  return out;
}

}  // namespace apr
