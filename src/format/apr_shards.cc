// .apr shards opened as one model: see apr_reader.h. Layout: docs/formats/apr.md.
#include <fmt/format.h>

#include <optional>
#include <set>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "format/apr_reader.h"
#include "format/container_checks.h"

namespace apr {
namespace {

constexpr int64_t kMaxShards = 99999;  // five digits in the name

struct Sharding {
  int64_t index = 0, count = 1;
  std::optional<uint64_t> total;  // bytes of all tensors
};

[[noreturn]] void Refuse(const std::string& file, std::string why) {
  throw Error(ErrorCode::kInvalidFormat, std::move(why), {.file = file, .tensor = "sharding"});
}

// Of one shard; a file that says nothing is no shard.
Sharding ShardingOf(const ModelFileParts& parts) {
  Sharding out;
  const std::string& file = parts.files.back()->path();
  for (const auto& [key, value] : parts.metadata) {
    const std::optional<std::string_view> text = key == "sharding" ? value.AsJsonText() : std::nullopt;
    if (!text || *text == "null") continue;
    const Json json = ParseJson(*text, file);
    const auto number = [&](const char* name) -> std::optional<int64_t> {
      const auto found = json.is_object() ? json.find(name) : json.end();
      if (!json.is_object() || found == json.end() || !found->is_number_integer() || *found < 0) return std::nullopt;
      return found->get<int64_t>();
    };
    out.count = number("shard_count").value_or(1);
    out.index = number("shard_index").value_or(0);
    if (const auto total = number("total_size")) out.total = static_cast<uint64_t>(*total);
  }
  return out;
}

std::string ShardTail(int64_t index, int64_t count) { return fmt::format("-{:05}-of-{:05}.apr", index + 1, count); }

}  // namespace

void JoinAprShards(ModelFileParts* parts) {
  const Sharding of = ShardingOf(*parts);
  if (of.count <= 1) return;
  const std::string opened = parts->files.back()->path();
  if (of.count > kMaxShards || of.index >= of.count) Refuse(opened, fmt::format("shard {} of {}", of.index, of.count));
  const std::string tail = ShardTail(of.index, of.count);
  if (!opened.ends_with(tail)) {
    Refuse(opened, fmt::format("the file is shard {} of {}: its name must end in {}, so that the others can be found", of.index + 1, of.count, tail));
  }
  const std::string stem = opened.substr(0, opened.size() - tail.size());
  ModelFileParts whole{.container = Container::kApr, .path = parts->path, .format_version = parts->format_version,
                       .files = {}, .tensors = {}, .metadata = {}, .config = nullptr, .warnings = {}, .storage = {}};
  std::set<std::string> seen;
  uint64_t bytes = 0;
  for (int64_t i = 0; i < of.count; ++i) {
    ModelFileParts shard;
    ReadApr(MappedFile::Open(stem + ShardTail(i, of.count)), &shard);
    const std::string& path = shard.files.back()->path();
    const Sharding own = ShardingOf(shard);
    if (own.count != of.count || own.index != i) Refuse(path, fmt::format("says shard {} of {}, its name another", own.index + 1, own.count));
    for (TensorInfo& info : shard.tensors) {
      if (!seen.insert(info.name).second) {
        throw Error(ErrorCode::kInvalidFormat, "the tensor occurs in two shards", {.file = path, .tensor = Printable(info.name), .offset = info.offset});
      }
      info.file = static_cast<int>(i);
      bytes += info.bytes;
      whole.tensors.push_back(std::move(info));
    }
    // The first shard has the model's metadata.
    if (i == 0) whole.metadata = std::move(shard.metadata);
    for (FileWarning& warning : shard.warnings) whole.warnings.push_back(std::move(warning));
    for (auto& storage : shard.storage) whole.storage.push_back(std::move(storage));
    whole.files.push_back(shard.files.back());
  }
  if (of.total && *of.total != bytes) Refuse(opened, fmt::format("total_size is {}, the shards hold {} bytes of tensors", *of.total, bytes));
  *parts = std::move(whole);
}

std::string FirstAprShard(const std::string& manifest) {
  const Json json = ParseJson(AsText(MappedFile::Open(manifest)->bytes()), manifest, {.max_keys = 1'000'000});
  const auto shards = json.is_object() ? json.find("shards") : json.end();
  if (json.is_object() && shards != json.end() && shards->is_array() && !shards->empty() && shards->front().is_object()) {
    const std::string name = shards->front().value("filename", "");
    // A manifest has no say in files outside its folder.
    if (!name.empty() && name.find('/') == std::string::npos && name != "..") {
      const size_t end = manifest.rfind('/');
      return end == std::string::npos ? name : manifest.substr(0, end + 1) + name;
    }
  }
  throw Error(ErrorCode::kInvalidFormat, "names no first shard", {.file = manifest, .tensor = "shards"});
}

}  // namespace apr
