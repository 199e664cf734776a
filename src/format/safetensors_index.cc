// The index of a sharded safetensors model: see safetensors_reader.h.
#include <fmt/format.h>

#include <filesystem>
#include <unordered_map>

#include "base/error.h"
#include "format/container_checks.h"
#include "format/safetensors_reader.h"
#include "format/simd_json.h"

namespace apr {
namespace {

constexpr uint64_t kMaxIndexBytes = 100'000'000;

[[noreturn]] void Refuse(const std::string& file, std::string_view key, std::string message) {
  throw Error(ErrorCode::kInvalidFormat, std::move(message), {.file = file, .tensor = Printable(key)});
}

// A shard is a plain file name: it lies beside its index.
void CheckShardName(std::string_view shard, std::string_view tensor, const std::string& file) {
  const bool plain = !shard.empty() && shard != "." && shard.find_first_of("/\\") == shard.npos &&
                     !NameProblem(shard);
  if (!plain) {
    Refuse(file, tensor, "the shard name '" + Printable(shard) + "' is not a plain file name");
  }
}

}  // namespace

SafetensorsIndex ParseSafetensorsIndex(std::string_view text, const std::string& file) {
  simdjson::dom::parser parser;
  const simdjson::dom::element root = ParseWithSimdJson(&parser, {.text = text, .file = file});
  std::string_view twice;
  if (FindDuplicateKey(root, &twice)) Refuse(file, twice, "the key occurs twice in one object");
  simdjson::dom::object map;
  if (root["weight_map"].get(map) != simdjson::SUCCESS) {
    Refuse(file, "weight_map", "is absent or not an object");
  }
  std::map<std::string, std::vector<std::string>> by_shard;
  for (const auto [tensor, value] : map) {
    std::string_view shard;
    if (value.get(shard) != simdjson::SUCCESS) Refuse(file, tensor, "the shard name is no string");
    CheckShardName(shard, tensor, file);
    by_shard[std::string(shard)].emplace_back(tensor);
  }
  SafetensorsIndex index;
  for (auto& [shard, tensors] : by_shard) {
    for (std::string& tensor : tensors) {
      index.weight_map.emplace(std::move(tensor), index.shards.size());
    }
    index.shards.push_back(shard);
  }
  return index;
}

void ReadSafetensorsSharded(const std::string& index_path, ModelFileParts* parts) {
  const auto mapped = MappedFile::Open(index_path);
  if (mapped->size() > kMaxIndexBytes) {
    Refuse(index_path, "", fmt::format("an index of {} bytes is too large", mapped->size()));
  }
  const SafetensorsIndex index = ParseSafetensorsIndex(AsText(mapped->bytes()), index_path);
  const std::filesystem::path folder = std::filesystem::path(index_path).parent_path();
  std::unordered_map<std::string_view, int> found;
  for (const std::string& shard : index.shards) {
    const std::string path = (folder / shard).string();
    if (!std::filesystem::exists(path)) {
      Refuse(index_path, shard, "the shard does not exist in the index's folder");
    }
    ReadSafetensors(MappedFile::Open(path), parts);
  }
  for (const TensorInfo& info : parts->tensors) {
    if (!found.emplace(info.name, info.file).second) {
      Refuse(parts->files[static_cast<size_t>(info.file)]->path(), info.name,
             "the tensor occurs in two shards");
    }
    if (!index.weight_map.contains(info.name)) {
      parts->warnings.push_back({index_path, "the index does not list a tensor of a shard", info.name});
    }
  }
  for (const auto& [tensor, shard] : index.weight_map) {
    const auto place = found.find(tensor);
    if (place == found.end() || place->second != static_cast<int>(shard)) {
      Refuse(index_path, tensor,
             "the shard '" + index.shards[shard] + "' does not hold the tensor it should");
    }
  }
}

}  // namespace apr
