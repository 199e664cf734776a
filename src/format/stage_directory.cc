// Stage directories and their manifest: see stage_file.h.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <tuple>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "format/container_checks.h"
#include "format/stage_file.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr char kSchema[] = "apr-stages-v1";
constexpr char kManifestName[] = "stages.json";
constexpr uint64_t kMaxManifestBytes = 64 << 20;

std::string StagePath(const std::string& folder, std::string_view name) {
  return (fs::path(folder) / (std::string(name) + ".bin")).string();
}

[[noreturn]] void RefuseStage(const std::string& file, std::string_view key, std::string message) {
  throw Error(ErrorCode::kInvalidFormat, std::move(message), {.file = file, .tensor = Printable(key)});
}

// A text field that may be absent; null counts as absent.
std::string TextField(const Json& object, const char* key, const std::string& file) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return "";
  if (!found->is_string()) RefuseStage(file, key, "is not a string");
  return found->get<std::string>();
}

int64_t NaturalNumber(const Json& value, const std::string& file, const char* key) {
  const bool fits = value.is_number_unsigned() &&
                    value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
  if (!fits) RefuseStage(file, key, "holds something that is no natural number");
  return value.get<int64_t>();
}

StageEntry ParseEntry(const Json& row, const std::string& file) {
  if (!row.is_object()) RefuseStage(file, "stages", "an entry is not an object");
  StageEntry entry;
  entry.name = TextField(row, "name", file);
  if (!ParseStageName(entry.name)) {
    RefuseStage(file, "stages", "'" + Printable(entry.name) + "' is no stage name");
  }
  const auto shape = row.find("shape");
  if (shape == row.end() || shape->is_null()) return entry;
  if (!shape->is_array() || shape->size() > Shape::kMaxDims) {
    RefuseStage(file, entry.name, "the shape is no array of at most 8 dims");
  }
  std::vector<int64_t> dims;
  for (const Json& dim : *shape) dims.push_back(NaturalNumber(dim, file, "shape"));
  entry.shape = Shape(std::span<const int64_t>(dims));
  if (!entry.shape->NumElementsChecked()) RefuseStage(file, entry.name, "the shape is too large");
  return entry;
}

StagePrecision ParsePrecision(const Json& root, const std::string& file) {
  const auto found = root.find("precision");
  if (found == root.end() || found->is_null()) return {};
  if (!found->is_object()) RefuseStage(file, "precision", "is not an object");
  return {TextField(*found, "weights", file), TextField(*found, "activations", file),
          TextField(*found, "accumulate", file)};
}

void CheckNoRepeats(const std::vector<StageEntry>& stages, const std::string& file) {
  std::vector<std::string_view> names;
  for (const StageEntry& entry : stages) names.push_back(entry.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice != names.end()) RefuseStage(file, *twice, "the stage is listed twice");
}

// What lies in a folder without a manifest.
std::vector<StageEntry> ListStages(const std::string& folder) {
  std::vector<StageName> names;
  std::error_code error;
  const auto collect = [&](const fs::path& from, const std::string& prefix) {
    for (const auto& entry : fs::directory_iterator(from, error)) {
      if (entry.path().extension() != ".bin") continue;
      if (auto name = ParseStageName(prefix + entry.path().stem().string())) names.push_back(*name);
    }
  };
  collect(folder, "");
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && ParseStageName(name + "/x")) collect(entry.path(), name + "/");
  }
  std::ranges::sort(names, {}, [](const StageName& n) { return std::tie(n.layer, n.stage); });
  std::vector<StageEntry> out;
  for (const StageName& name : names) out.push_back({name.ToString(), std::nullopt});
  return out;
}

}  // namespace

std::pair<StageManifest, std::vector<StageEntry>> ParseStageManifest(std::string_view text,
                                                                     const std::string& file) {
  const Json root = ParseJson(text, file);
  if (!root.is_object()) RefuseStage(file, "schema", "the manifest is not a JSON object");
  if (TextField(root, "schema", file) != kSchema) {
    RefuseStage(file, "schema", fmt::format("is not '{}'", kSchema));
  }
  StageManifest manifest;
  manifest.engine = TextField(root, "engine", file);
  manifest.model = TextField(root, "model", file);
  manifest.architecture = TextField(root, "architecture", file);
  manifest.executor = TextField(root, "executor", file);
  manifest.precision = ParsePrecision(root, file);
  if (const auto ids = root.find("ids"); ids != root.end() && !ids->is_null()) {
    if (!ids->is_array()) RefuseStage(file, "ids", "is not an array");
    for (const Json& id : *ids) manifest.ids.push_back(NaturalNumber(id, file, "ids"));
  }
  const auto rows = root.find("stages");
  if (rows == root.end() || !rows->is_array()) RefuseStage(file, "stages", "is absent or not an array");
  std::vector<StageEntry> stages;
  for (const Json& row : *rows) stages.push_back(ParseEntry(row, file));
  CheckNoRepeats(stages, file);
  return {std::move(manifest), std::move(stages)};
}

std::string FormatStageManifest(const StageManifest& manifest, std::span<const StageEntry> stages) {
  const auto text = [](const std::string& value) { return value.empty() ? Json() : Json(value); };
  Json root;
  root["schema"] = kSchema;
  root["engine"] = text(manifest.engine);
  root["model"] = text(manifest.model);
  root["architecture"] = text(manifest.architecture);
  root["precision"] = {{"weights", text(manifest.precision.weights)},
                       {"activations", text(manifest.precision.activations)},
                       {"accumulate", text(manifest.precision.accumulate)}};
  if (!manifest.executor.empty()) root["executor"] = manifest.executor;
  root["ids"] = manifest.ids;
  root["stages"] = Json::array();
  for (const StageEntry& entry : stages) {
    Json row = {{"name", entry.name}};
    if (entry.shape) {
      row["shape"] = std::vector<int64_t>(entry.shape->dims().begin(), entry.shape->dims().end());
    }
    root["stages"].push_back(std::move(row));
  }
  return DumpJson(root, 1) + "\n";
}

StageDirectory StageDirectory::Open(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    throw Error(ErrorCode::kNotFound, "is not a folder", {.file = path});
  }
  StageDirectory out;
  out.path_ = path;
  const std::string manifest = (fs::path(path) / kManifestName).string();
  out.has_manifest_ = fs::exists(manifest, ignored);
  if (!out.has_manifest_) {
    out.stages_ = ListStages(path);
  } else {
    const auto mapped = MappedFile::Open(manifest);
    if (mapped->size() > kMaxManifestBytes) RefuseStage(manifest, "stages", "the manifest is too large");
    std::tie(out.manifest_, out.stages_) = ParseStageManifest(AsText(mapped->bytes()), manifest);
  }
  if (out.stages_.empty()) {
    throw Error(ErrorCode::kNotFound, "the folder holds no stage", {.file = path});
  }
  return out;
}

const StageEntry* StageDirectory::Find(std::string_view name) const {
  const auto found = std::ranges::find(stages_, name, &StageEntry::name);
  return found == stages_.end() ? nullptr : &*found;
}

StageFile StageDirectory::Read(const StageEntry& entry) const {
  const std::string file = StagePath(path_, entry.name);
  StageFile out = ReadStageFile(file);
  const uint32_t layer = ParseStageName(entry.name)->layer;
  if (out.layer != layer) {
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("the file says layer {}, its place {}", out.layer, layer),
                {.file = file, .tensor = entry.name, .offset = 4});
  }
  if (entry.shape && static_cast<uint64_t>(entry.shape->num_elements()) != out.values.size()) {
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("the file holds {} values, the manifest's shape is {}", out.values.size(),
                            entry.shape->ToString()),
                {.file = file, .tensor = entry.name, .offset = 8});
  }
  return out;
}

StageDirectoryWriter::StageDirectoryWriter(std::string path, StageManifest manifest,
                                           Overwrite overwrite)
    : path_(std::move(path)), manifest_(std::move(manifest)), overwrite_(overwrite) {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) throw Error(ErrorCode::kIo, "cannot make the folder: " + error.message(), {.file = path_});
  const fs::path old = fs::path(path_) / kManifestName;
  if (!fs::exists(old)) return;
  if (overwrite_ == Overwrite::kRefuse) {
    throw Error(ErrorCode::kValidationFailed, "exists; give --force to replace it",
                {.file = old.string()});
  }
  fs::remove(old, error);
  if (error) throw Error(ErrorCode::kIo, "cannot remove: " + error.message(), {.file = old.string()});
}

void StageDirectoryWriter::Write(const StageName& name, const Shape& shape,
                                 std::span<const float> values) {
  const std::string text = name.ToString();
  APR_CHECK(ParseStageName(text).has_value());
  APR_CHECK(static_cast<uint64_t>(shape.num_elements()) == values.size());
  WriteStageFile(StagePath(path_, text), name.layer, values, overwrite_);
  stages_.push_back({text, shape});
}

void StageDirectoryWriter::Finish() {
  WriteTextFile((fs::path(path_) / kManifestName).string(), FormatStageManifest(manifest_, stages_),
                overwrite_);
}

}  // namespace apr
