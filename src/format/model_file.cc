// See model_file.h.
#include "format/model_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "format/apr_reader.h"
#include "format/container_checks.h"
#include "format/gguf_reader.h"
#include "format/hub_cache.h"
#include "format/packed_weights.h"
#include "format/safetensors_reader.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = 16 << 20;

bool IsFile(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// Files of the folder that end in `tail`, sorted by name.
std::vector<std::string> FilesEndingIn(const std::string& folder, std::string_view tail) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().ends_with(tail) && IsFile(entry.path())) {
      out.push_back(entry.path().string());
    }
  }
  if (error) throw Error(ErrorCode::kIo, "cannot list: " + error.message(), {.file = folder});
  std::ranges::sort(out);
  return out;
}

// All of model-0000i-of-0000N.safetensors, for a folder whose index is absent.
void ReadUnindexedShards(const std::vector<std::string>& shards, ModelFileParts* parts) {
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string tail = fmt::format("-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    if (shards[i].ends_with(tail)) continue;
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("the folder has no {} and its shards are not complete: this file is not "
                            "part {} of {}", kSafetensorsIndex, i + 1, shards.size()),
                {.file = shards[i], .offset = 0});
  }
  for (const std::string& shard : shards) ReadSafetensors(MappedFile::Open(shard), parts);
  std::unordered_map<std::string_view, int> seen;
  for (const TensorInfo& info : parts->tensors) {
    if (seen.emplace(info.name, info.file).second) continue;
    throw Error(ErrorCode::kInvalidFormat, "the tensor occurs in two shards",
                {.file = shards[static_cast<size_t>(info.file)], .tensor = Printable(info.name)});
  }
  parts->warnings.push_back({shards[0], "the shards have no index; all of them were read", ""});
}

void ReadConfig(ModelFileParts* parts, const std::string& folder) {
  const std::string path = (fs::path(folder) / "config.json").string();
  if (!IsFile(path)) return;
  const auto mapped = MappedFile::Open(path);
  if (mapped->size() > kMaxConfigBytes) {
    throw Error(ErrorCode::kInvalidFormat, "too large for a model configuration", {.file = path});
  }
  auto config = std::make_shared<Json>(ParseJson(AsText(mapped->bytes()), path));
  if (!config->is_object()) {
    throw Error(ErrorCode::kInvalidFormat, "is not a JSON object", {.file = path, .offset = 0});
  }
  parts->config = std::move(config);
  if (auto warning = QuantizationWarning(*parts)) parts->warnings.push_back(std::move(*warning));
}

[[noreturn]] void RefuseUnknown(const MappedFile& file) {
  const Bytes bytes = file.bytes();
  const std::string_view head = AsText(bytes.subspan(0, std::min<size_t>(bytes.size(), 4)));
  std::string what = fmt::format("not a safetensors, GGUF or APR file: it begins with '{}'",
                                 Printable(head));
  if (bytes.empty()) what = "the file is empty";
  if (head == "APRT") what = "an APRT stage file holds no model";
  if (head == "APRN") what = "APR v1 ('APRN', classic models) is not supported, only APR v2";
  if (head == "FUGG") what = "a byte-swapped GGUF magic: only little-endian files are supported";
  if (head == "GGML" || head == "lmgg" || head == "tjgg" || head == "fmgg") {
    what = "a GGML file from before GGUF is not supported";
  }
  throw Error(ErrorCode::kInvalidFormat, what, {.file = file.path(), .offset = 0});
}

void ReadByContent(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts) {
  const Bytes bytes = file->bytes();
  const std::string_view head = AsText(bytes.subspan(0, std::min<size_t>(bytes.size(), 4)));
  if (head == "GGUF") return ReadGguf(file, parts);
  if (LooksLikeApr(bytes)) return ReadApr(file, parts);
  // A damaged header is the safetensors reader's to explain.
  const bool named = file->path().ends_with(".safetensors") && !bytes.empty();
  if (LooksLikeSafetensors(bytes) || (named && !LooksLikeOtherMagic(bytes))) {
    return ReadSafetensors(file, parts);
  }
  RefuseUnknown(*file);
}

void OpenFolder(const std::string& folder, ModelFileParts* parts) {
  const std::string index = (fs::path(folder) / kSafetensorsIndex).string();
  if (IsFile(index)) return ReadSafetensorsSharded(index, parts);
  const std::string single = (fs::path(folder) / "model.safetensors").string();
  if (IsFile(single)) return ReadSafetensors(MappedFile::Open(single), parts);
  const std::vector<std::string> safetensors = FilesEndingIn(folder, ".safetensors");
  std::vector<std::string> shards;
  std::ranges::copy_if(safetensors, std::back_inserter(shards), [](const std::string& name) {
    const std::string base = fs::path(name).filename().string();
    return base.starts_with("model-") && base.find("-of-") != base.npos;
  });
  if (!shards.empty()) return ReadUnindexedShards(shards, parts);
  std::vector<std::string> first = safetensors;
  for (const char* tail : {".gguf", ".apr"}) {
    if (first.empty()) first = FilesEndingIn(folder, tail);
  }
  if (first.empty()) {
    throw Error(ErrorCode::kNotFound, "the folder holds no .safetensors, .gguf or .apr file",
                {.file = folder});
  }
  ReadByContent(MappedFile::Open(first[0]), parts);
}

bool IsIndexJson(const std::string& path) { return path.ends_with(".safetensors.index.json"); }

}  // namespace

const char* ContainerName(Container container) {
  switch (container) {
    case Container::kSafetensors: return "safetensors";
    case Container::kGguf: return "gguf";
    case Container::kApr: return "apr";
  }
  return "";
}

ModelFile::ModelFile(ModelFileParts parts) : parts_(std::move(parts)) {
  tensor_index_.reserve(parts_.tensors.size());
  for (size_t i = 0; i < parts_.tensors.size(); ++i) tensor_index_.emplace(parts_.tensors[i].name, i);
  for (size_t i = 0; i < parts_.metadata.size(); ++i) {
    metadata_index_.emplace(parts_.metadata[i].first, i);
  }
}

std::shared_ptr<const ModelFile> ModelFile::Open(const std::string& argument) {
  ModelFileParts parts;
  const std::string path = ResolveModelPath(argument);
  parts.path = path;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) OpenFolder(path, &parts);
  else if (IsIndexJson(path)) ReadSafetensorsSharded(path, &parts);
  else ReadByContent(MappedFile::Open(path.ends_with(kAprManifestEnd) ? FirstAprShard(path) : path), &parts);
  if (parts.container == Container::kApr) JoinAprShards(&parts);
  if (parts.container == Container::kGguf) JoinGgufSplits(&parts);
  const std::string folder = fs::is_directory(path, ignored) ? path : fs::path(path).parent_path().string();
  if (parts.container == Container::kSafetensors) ReadConfig(&parts, folder);
  return std::make_shared<const ModelFile>(std::move(parts));
}

std::shared_ptr<const ModelFile> ModelFile::FromMapped(std::shared_ptr<const MappedFile> file) {
  ModelFileParts parts;
  parts.path = file->path();
  ReadByContent(file, &parts);
  return std::make_shared<const ModelFile>(std::move(parts));
}

std::string ModelFile::folder() const {
  std::error_code ignored;
  if (fs::is_directory(parts_.path, ignored)) return parts_.path;
  const std::string parent = fs::path(parts_.path).parent_path().string();
  return parent.empty() ? "." : parent;
}

uint64_t ModelFile::total_bytes() const {
  if (parts_.stored != nullptr) return parts_.stored->total_bytes();
  uint64_t total = 0;
  for (const auto& file : parts_.files) total += file->size();
  return total;
}

const TensorInfo* ModelFile::Find(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &parts_.tensors[found->second];
}

TensorView ModelFile::View(const TensorInfo& info) const {
  APR_CHECK(info.packed == nullptr);
  return Layout(info);
}

void ModelFile::DontNeed(const TensorInfo& info) const {
  if (info.packed == nullptr) return parts_.files[static_cast<size_t>(info.file)]->DontNeed(info.offset, info.bytes);
  for (const std::string& part : info.packed->parts) parts_.stored->DontNeed(*parts_.stored->Find(part));
}

TensorView ModelFile::Layout(const TensorInfo& info) const {
  if (info.bytes == 0) return {info.dtype, info.shape, {}};
  const Bytes bytes = parts_.files[static_cast<size_t>(info.file)]->bytes();
  APR_CHECK(info.offset <= bytes.size() && info.bytes <= bytes.size() - info.offset);
  return {info.dtype, info.shape, bytes.subspan(info.offset, info.bytes)};
}

const MetaValue* ModelFile::Meta(std::string_view key) const {
  const auto found = metadata_index_.find(key);
  return found == metadata_index_.end() ? nullptr : &parts_.metadata[found->second].second;
}

std::optional<std::string> ModelFile::Companion(std::string_view name) const {
  if (name.find('/') != name.npos || NameProblem(name)) return std::nullopt;
  const fs::path path = fs::path(folder()) / name;
  if (!IsFile(path)) return std::nullopt;
  return path.string();
}

}  // namespace apr
