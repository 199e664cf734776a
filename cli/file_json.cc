// See file_json.h.
#include "cli/file_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/json.h"
#include "format/stage_file.h"

namespace apr {
namespace {

constexpr uint64_t kWholeArray = 64;
constexpr uint64_t kFirst = 8;

// The first `limit` elements.
Json Elements(const MetaValue& value, uint64_t limit) {
  Json out = Json::array();
  const auto add = [&](const auto& all) {
    for (size_t i = 0; i < std::min<size_t>(all.size(), limit); ++i) out.push_back(all[i]);
  };
  if (value.element_type() == MetaValue::Type::kString) {
    add(value.AsStrings());
  } else if (value.element_type() == MetaValue::Type::kBool) {
    for (const int64_t bit : value.AsInts()) {
      if (out.size() < limit) out.push_back(bit != 0);
    }
  } else if (value.element_type() < MetaValue::Type::kF32) {
    add(value.AsInts());
  } else if (value.element_type() == MetaValue::Type::kF32 || value.element_type() == MetaValue::Type::kF64) {
    for (const double number : value.AsDoubles()) {
      if (out.size() < limit) out.push_back(JsonNumber(number));
    }
  } else {
    for (const MetaValue& inner : value.AsArrays()) {
      if (out.size() < limit) out.push_back(MetaToJson(inner));
    }
  }
  return out;
}

}  // namespace

Json MetaToJson(const MetaValue& value) {
  if (const auto text = value.AsString()) return std::string(*text);
  if (const auto text = value.AsJsonText()) {
    try {
      return ParseJson(*text, "");
    } catch (const Error&) {
      return std::string(*text);
    }
  }
  if (value.type() == MetaValue::Type::kBool) return *value.AsBool();
  if (value.type() == MetaValue::Type::kArray) {
    if (value.size() <= kWholeArray) return Elements(value, kWholeArray);
    return {{"count", value.size()}, {"first", Elements(value, kFirst)}};
  }
  if (const auto number = value.AsInt()) return *number;
  return JsonNumber(value.AsDouble().value_or(0));
}

Json StatisticsToJson(const Statistics& s) {
  return {{"count", s.count},
          {"mean", JsonNumber(s.mean)},
          {"std", JsonNumber(s.std)},
          {"l2_norm", JsonNumber(s.l2_norm)},
          {"min", JsonNumber(s.min)},
          {"max", JsonNumber(s.max)},
          {"max_abs", JsonNumber(s.max_abs)},
          {"nan_count", s.nan_count},
          {"inf_count", s.inf_count}};
}

Json ErrorDocument(const Error& error) {
  const auto text = [](const std::string& s) { return s.empty() ? Json(nullptr) : Json(s); };
  const ErrorContext& context = error.context();
  return {{"error",
           {{"code", ErrorCodeName(error.code())},
            {"message", error.message()},
            {"file", text(context.file)},
            {"tensor", text(context.tensor)},
            {"offset", context.offset ? Json(*context.offset) : Json(nullptr)}}}};
}

std::string HumanBytes(uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* const units[] = {"kB", "MB", "GB", "TB"};
  size_t unit = 0;
  value /= 1000;
  while (value >= 1000 && unit < 3) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, units[unit]);
}

std::string OneLineText(std::string_view text, size_t limit) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (out.size() >= limit && (byte & 0xC0) != 0x80) return out + "...";
    if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (byte < 0x20 || byte == 0x7F) out += fmt::format("\\x{:02x}", byte);
    else out += c;
  }
  return out;
}

bool IsStageFile(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;  // a pipe must not be waited for
  char magic[4] = {};
  std::ifstream in(path, std::ios::binary);
  return in.read(magic, sizeof magic) && LooksLikeStageFile(AsBytes(std::string_view(magic, sizeof magic)));
}

std::string DominantType(const ModelFile& file) {
  std::map<DType, int64_t> elements;
  for (const TensorInfo& info : file.tensors()) {
    if (info.shape.ndim() >= 2) elements[info.dtype] += info.shape.num_elements();
  }
  const auto most = std::ranges::max_element(elements, {}, [](const auto& entry) { return entry.second; });
  return most == elements.end() ? "" : NameOf(most->first);
}

}  // namespace apr
