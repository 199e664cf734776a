// See stop_ids.h.
#include "generate/stop_ids.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace apr {
namespace {

constexpr uint64_t kMaxConfigBytes = 16 << 20;

void AddId(std::vector<StopId>& out, int64_t id, const std::string& file, const std::string& origin) {
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("{} is no token id", id), {.file = file, .tensor = "eos_token_id"});
  }
  if (std::ranges::any_of(out, [&](const StopId& s) { return s.id == id; })) return;
  out.push_back({static_cast<int32_t>(id), origin});
}

// The value of "eos_token_id": a number or a list of numbers; null and absent are none.
std::vector<StopId> FromJson(const Json& object, const std::string& file, const std::string& origin) {
  std::vector<StopId> out;
  const auto it = object.find("eos_token_id");
  if (it == object.end() || it->is_null()) return out;
  const Json list = it->is_array() ? *it : Json::array({*it});
  for (const Json& value : list) {
    if (!value.is_number_integer()) {
      throw Error(ErrorCode::kInvalidFormat, "must be a token id or a list of them", {.file = file, .tensor = "eos_token_id"});
    }
    AddId(out, value.get<int64_t>(), file, origin + ": eos_token_id");
  }
  return out;
}

std::vector<StopId> FromGenerationConfig(const ModelFile& file) {
  const auto path = file.Companion("generation_config.json");
  if (!path) return {};
  const auto mapped = MappedFile::Open(*path);
  if (mapped->size() > kMaxConfigBytes) throw Error(ErrorCode::kInvalidFormat, "too large", {.file = *path});
  const Json json = ParseJson(AsText(mapped->bytes()), *path);
  if (!json.is_object()) throw Error(ErrorCode::kInvalidFormat, "is not a JSON object", {.file = *path, .offset = 0});
  return FromJson(json, *path, "generation_config.json");
}

std::vector<StopId> FromConfig(const ModelFile& file) {
  if (file.config() == nullptr) return {};
  const Json& config = *file.config();
  std::vector<StopId> out = FromJson(config, file.path(), "config.json");
  const auto text = config.find("text_config");
  if (out.empty() && text != config.end() && text->is_object()) {
    out = FromJson(*text, file.path(), "config.json: text_config");
  }
  return out;
}

void AddMeta(const ModelFile& file, const std::string& key, std::vector<StopId>& out) {
  const MetaValue* value = file.Meta(key);
  if (value == nullptr) return;
  const auto id = value->AsInt();
  if (id) AddId(out, *id, file.path(), key);
  for (const int64_t each : value->AsInts()) AddId(out, each, file.path(), key);
}

}  // namespace

std::vector<StopId> StopIdsOf(const ModelFile& file) {
  std::vector<StopId> out;
  switch (file.container()) {
    case Container::kSafetensors:
      out = FromGenerationConfig(file);
      if (out.empty()) out = FromConfig(file);
      break;
    case Container::kGguf:
      for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
        AddMeta(file, std::string("tokenizer.ggml.") + key, out);
      }
      break;
    case Container::kApr:
      AddMeta(file, "eos_token_id", out);
      break;
  }
  return out;
}

}  // namespace apr
