// See shard.h. Manifest: docs/formats/apr.md. Split keys: ggml-org/llama.cpp tools/gguf-split.
#include "format/shard.h"

#include <fmt/format.h>

#include <filesystem>
#include <limits>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/output_folder.h"
#include "format/apr_header.h"
#include "format/apr_reader.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

std::vector<std::vector<const TensorInfo*>> Partition(const ModelFile& file, uint64_t max_bytes) {
  std::vector<std::vector<const TensorInfo*>> out(1);
  uint64_t used = 0;
  for (const TensorInfo& info : file.tensors()) {
    if (!out.back().empty() && used + info.bytes > max_bytes) {
      out.emplace_back();
      used = 0;
    }
    out.back().push_back(&info);
    used += info.bytes;
  }
  return out;
}

std::vector<TensorToWrite> Copies(const std::shared_ptr<const ModelFile>& file, const std::vector<const TensorInfo*>& infos) {
  std::vector<TensorToWrite> out;
  for (const TensorInfo* info : infos) out.push_back(CopyOf(file, *info, info->name));
  return out;
}

MetaBuilder WithoutSplit(const ModelFile& file) {
  MetaBuilder out;
  for (const auto& [key, value] : file.metadata()) {
    if (key.rfind("split.", 0) != 0 && key != "sharding") out.Set(key, value);
  }
  return out;
}

std::string PartName(const ShardArgs& args, size_t i, size_t count, const char* end) {
  return fmt::format("{}-{:05}-of-{:05}{}", args.stem, i + 1, count, end);
}

std::vector<std::string> ShardGguf(const std::shared_ptr<const ModelFile>& file, const ShardArgs& args) {
  const auto parts = Partition(*file, args.max_bytes);
  std::vector<std::string> written;
  for (size_t i = 0; i < parts.size(); ++i) {
    MetaBuilder metadata = i == 0 ? WithoutSplit(*file) : MetaBuilder();
    if (parts.size() > 1) {
      metadata.Set("split.no", MetaValue::Scalar(MetaValue::Type::kU16, static_cast<uint64_t>(i)));
      metadata.Set("split.count", MetaValue::Scalar(MetaValue::Type::kU16, static_cast<uint64_t>(parts.size())));
      metadata.Set("split.tensors.count", MetaValue::Scalar(MetaValue::Type::kI32, static_cast<int64_t>(file->tensors().size())));
    }
    written.push_back(args.folder + "/" + (parts.size() > 1 ? PartName(args, i, parts.size(), ".gguf") : args.stem + ".gguf"));
    WriteGguf(written.back(), Copies(file, parts[i]), metadata.list(), args.overwrite);
  }
  return written;
}

uint16_t FlagsOf(const ModelFile& file) { return ParseAprHeader(file.files()[0]->bytes(), file.path()).flags; }

// The first shard has the model's metadata, the others what tells them apart.
MetaBuilder ShardMetadata(const ModelFile& file, const ShardArgs& args, size_t i, size_t count, uint64_t total) {
  MetaBuilder out;
  if (i == 0) out = WithoutSplit(file);
  else if (const MetaValue* type = file.Meta("model_type")) out.Set("model_type", *type);
  const Json sharding = {{"shard_count", count}, {"shard_index", i}, {"total_size", total}, {"pattern", args.stem + "-{:05d}-of-{:05d}.apr"}};
  out.SetJsonText("sharding", DumpJson(sharding, -1));
  return out;
}

std::vector<std::string> ShardApr(const std::shared_ptr<const ModelFile>& file, const ShardArgs& args) {
  const auto parts = Partition(*file, args.max_bytes);
  uint64_t total = 0;
  for (const TensorInfo& info : file->tensors()) total += info.bytes;
  Json shards = Json::array(), map = Json::object();
  std::vector<std::string> written;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string name = PartName(args, i, parts.size(), ".apr");
    const std::string path = args.folder + "/" + name;
    WriteApr({.path = path, .tensors = Copies(file, parts[i]), .metadata = ShardMetadata(*file, args, i, parts.size(), total).list(),
              .flags = static_cast<uint16_t>(FlagsOf(*file) | kAprSharded), .overwrite = args.overwrite});
    written.push_back(path);
    Json names = Json::array();
    for (const TensorInfo* info : parts[i]) {
      names.push_back(info->name);
      map[info->name] = i;
    }
    shards.push_back({{"filename", name}, {"index", i}, {"size", fs::file_size(path)}, {"tensors", names}});
  }
  const Json manifest = {{"version", "2.0"}, {"shard_count", parts.size()}, {"total_size", total}, {"tensor_count", file->tensors().size()},
                         {"shards", shards}, {"weight_map", map}};
  written.push_back(args.folder + "/" + args.stem + std::string(kAprManifestEnd));
  WriteTextFile(written.back(), DumpJson(manifest) + "\n", args.overwrite);
  return written;
}

std::vector<std::string> ShardSafetensors(const std::shared_ptr<const ModelFile>& file, const ShardArgs& args) {
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& info : file->tensors()) tensors.push_back(CopyOf(file, info, info.name));
  std::vector<std::string> written;
  for (const std::string& name : WriteSafetensorsFolder({.folder = args.folder, .tensors = std::move(tensors), .metadata = file->metadata(),
                                                         .max_shard_bytes = args.max_bytes, .overwrite = args.overwrite})) {
    written.push_back(args.folder + "/" + name);
  }
  return written;
}

[[noreturn]] void BadManifest(const std::string& path, const std::string& why) { throw Error(ErrorCode::kInvalidFormat, why, {.file = path}); }

struct OpenShard {
  std::string path;
  std::shared_ptr<const ModelFile> file;
};

std::vector<OpenShard> OpenShards(const std::string& path) {
  const auto text = MappedFile::Open(path);
  const Json manifest = ParseJson(AsText(text->bytes()), path, {.max_keys = 1'000'000});
  if (!manifest.is_object() || manifest.value("version", "") != "2.0" || !manifest.contains("shards") || !manifest["shards"].is_array()) {
    BadManifest(path, "is no manifest of .apr shards, version 2.0");
  }
  std::vector<OpenShard> out;
  for (const Json& entry : manifest["shards"]) {
    if (!entry.is_object() || !entry.contains("filename") || !entry["filename"].is_string() || !entry.contains("tensors") || !entry["tensors"].is_array()) {
      BadManifest(path, "a shard has no file name or no list of tensors");
    }
    const std::string name = entry["filename"];
    // A manifest has no say in files outside its folder.
    if (name.empty() || name.find('/') != std::string::npos || name == "..") BadManifest(path, "'" + name + "' is no file name");
    const std::string shard = (fs::path(path).parent_path() / name).string();
    out.push_back({shard, ModelFile::FromMapped(MappedFile::Open(shard))});  // this one alone
    if (entry.contains("size") && entry["size"].is_number_unsigned() && entry["size"].get<uint64_t>() != out.back().file->total_bytes()) {
      BadManifest(shard, fmt::format("has {} bytes, the manifest says {}", out.back().file->total_bytes(), entry["size"].get<uint64_t>()));
    }
    for (const Json& tensor : entry["tensors"]) {
      if (!tensor.is_string() || out.back().file->Find(tensor.get<std::string>()) == nullptr) {
        throw Error(ErrorCode::kInvalidFormat, "the shard lacks a tensor of the manifest", {.file = shard, .tensor = DumpJson(tensor, -1)});
      }
    }
    if (entry["tensors"].size() != out.back().file->tensors().size()) BadManifest(shard, "has other tensors than the manifest says");
  }
  if (out.empty() || (manifest.contains("shard_count") && manifest["shard_count"] != out.size())) BadManifest(path, "the number of shards is wrong");
  return out;
}

void UnshardApr(const std::string& path, const std::string& out, Overwrite overwrite) {
  const std::vector<OpenShard> shards = OpenShards(path);
  std::vector<TensorToWrite> tensors;
  for (const OpenShard& shard : shards) {
    for (const TensorInfo& info : shard.file->tensors()) tensors.push_back(CopyOf(shard.file, info, info.name));
  }
  const MetaBuilder metadata = WithoutSplit(*shards[0].file);
  const auto flags = static_cast<uint16_t>(FlagsOf(*shards[0].file) & ~kAprSharded);
  WriteApr({.path = out, .tensors = std::move(tensors), .metadata = metadata.list(), .flags = flags, .overwrite = overwrite});
}

}  // namespace

std::vector<std::string> ShardFile(std::shared_ptr<const ModelFile> file, const ShardArgs& args) {
  OutputFolder folder(args.folder);
  const Container container = file->container();
  std::vector<std::string> names = container == Container::kGguf  ? ShardGguf(file, args)
                                   : container == Container::kApr ? ShardApr(file, args)
                                                                  : ShardSafetensors(file, args);
  folder.Keep();
  return names;
}

void UnshardFile(const std::string& path, const std::string& out, Overwrite overwrite) {
  if (path.ends_with(kAprManifestEnd)) return UnshardApr(path, out, overwrite);
  const auto file = ModelFile::Open(path);
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& info : file->tensors()) tensors.push_back(CopyOf(file, info, info.name));
  const MetaBuilder metadata = WithoutSplit(*file);
  switch (file->container()) {
    case Container::kGguf: return WriteGguf(out, tensors, metadata.list(), overwrite);
    case Container::kSafetensors: return WriteSafetensors(out, std::move(tensors), file->metadata(), overwrite);
    case Container::kApr:
      if (file->files().size() < 2) throw Error(ErrorCode::kUsage, "one .apr file is no set of shards: give the manifest or a shard", {.file = path});
      return WriteApr({.path = out, .tensors = std::move(tensors), .metadata = metadata.list(),
                       .flags = static_cast<uint16_t>(FlagsOf(*file) & ~kAprSharded), .overwrite = overwrite});
  }
}

}  // namespace apr
