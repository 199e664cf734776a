// Split GGUF files: see gguf_reader.h. Source: llama.cpp, tools/gguf-split (keys split.no,
// split.count, split.tensors.count; names from llama_split_path).
#include <fmt/format.h>

#include <optional>
#include <string>
#include <unordered_set>

#include "base/error.h"
#include "format/container_checks.h"
#include "format/gguf_reader.h"

namespace apr {
namespace {

struct SplitKeys {
  int64_t index = 0;
  int64_t count = 1;
  int64_t tensors = -1;  // -1: not said
};

constexpr int64_t kMaxParts = 99999;  // five digits in the name

std::optional<int64_t> IntKey(const ModelFileParts& parts, std::string_view key) {
  for (const auto& [name, value] : parts.metadata) {
    if (name != key) continue;
    const std::optional<int64_t> number = value.AsInt();
    if (!number || *number < 0) {
      throw Error(ErrorCode::kInvalidFormat, "is no natural number",
                  {.file = parts.files.back()->path(), .tensor = std::string(key)});
    }
    return number;
  }
  return std::nullopt;
}

SplitKeys ReadSplitKeys(const ModelFileParts& parts) {
  SplitKeys keys;
  keys.count = IntKey(parts, "split.count").value_or(1);
  keys.index = IntKey(parts, "split.no").value_or(0);
  keys.tensors = IntKey(parts, "split.tensors.count").value_or(-1);
  return keys;
}

[[noreturn]] void Refuse(const std::string& file, const char* key, std::string message) {
  throw Error(ErrorCode::kInvalidFormat, std::move(message), {.file = file, .tensor = key});
}

std::string NameTail(int64_t index, int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", index + 1, count);
}

void CheckPart(const ModelFileParts& part, int64_t index, const SplitKeys& whole) {
  const std::string& file = part.files.back()->path();
  const SplitKeys keys = ReadSplitKeys(part);
  if (keys.count != whole.count) {
    Refuse(file, "split.count", fmt::format("is {}, another part says {}", keys.count, whole.count));
  }
  if (keys.index != index) {
    Refuse(file, "split.no", fmt::format("is {}, the file's name says {}", keys.index, index));
  }
  if (keys.tensors != whole.tensors) {
    Refuse(file, "split.tensors.count",
           fmt::format("is {}, another part says {}", keys.tensors, whole.tensors));
  }
}

void AppendPart(ModelFileParts&& part, ModelFileParts* whole, std::unordered_set<std::string>* seen) {
  const std::string& file = part.files.back()->path();
  const int index = static_cast<int>(whole->files.size());
  for (TensorInfo& info : part.tensors) {
    if (!seen->insert(info.name).second) {
      throw Error(ErrorCode::kInvalidFormat, "the tensor occurs in two parts",
                  {.file = file, .tensor = Printable(info.name), .offset = info.offset});
    }
    info.file = index;
    whole->tensors.push_back(std::move(info));
  }
  if (index == 0) {
    whole->metadata = std::move(part.metadata);
    whole->format_version = part.format_version;
  }
  for (FileWarning& warning : part.warnings) whole->warnings.push_back(std::move(warning));
  whole->files.push_back(part.files.back());
}

}  // namespace

void JoinGgufSplits(ModelFileParts* parts) {
  const SplitKeys keys = ReadSplitKeys(*parts);
  if (keys.count <= 1) return;
  const std::string opened = parts->files.back()->path();
  if (keys.count > kMaxParts || keys.index >= keys.count) {
    Refuse(opened, "split.no", fmt::format("part {} of {}", keys.index, keys.count));
  }
  const std::string tail = NameTail(keys.index, keys.count);
  if (!opened.ends_with(tail)) {
    Refuse(opened, "split.no",
           fmt::format("the file is part {} of {}: its name must end in {}, so that the other parts "
                       "can be found", keys.index + 1, keys.count, tail));
  }
  const std::string stem = opened.substr(0, opened.size() - tail.size());
  ModelFileParts whole;
  whole.container = Container::kGguf;
  whole.path = parts->path;
  std::unordered_set<std::string> seen;
  for (int64_t i = 0; i < keys.count; ++i) {
    ModelFileParts part;
    ReadGguf(MappedFile::Open(stem + NameTail(i, keys.count)), &part);
    CheckPart(part, i, keys);
    AppendPart(std::move(part), &whole, &seen);
  }
  if (keys.tensors >= 0 && keys.tensors != static_cast<int64_t>(whole.tensors.size())) {
    Refuse(opened, "split.tensors.count",
           fmt::format("is {}, the parts hold {} tensors", keys.tensors, whole.tensors.size()));
  }
  *parts = std::move(whole);
}

}  // namespace apr
