// safetensors: writer of single files and of sharded folders. See model_writer.h; byte table:
// docs/formats/safetensors.md.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/output_folder.h"
#include "format/container_checks.h"
#include "format/model_writer.h"
#include "format/safetensors_reader.h"
#include "format/tensor_writer.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxNameInHeader = 65535;
constexpr char kSingleName[] = "model.safetensors";

// The reference writer's order of types (safetensors/src/tensor.rs, enum Dtype), narrowest first. It
// keeps every tensor aligned to its element size.
constexpr DType kTypeOrder[] = {
    DType::kBool,   DType::kF4,         DType::kF6E2M3,     DType::kF6E3M2, DType::kU8,  DType::kI8,
    DType::kF8E5M2, DType::kF8E4M3,     DType::kF8E8M0,     DType::kF8E4M3Fnuz, DType::kF8E5M2Fnuz,
    DType::kI16,    DType::kU16,        DType::kF16,        DType::kBF16,   DType::kI32, DType::kU32,
    DType::kF32,    DType::kC64,        DType::kF64,        DType::kI64,    DType::kU64};

size_t TypeRank(DType dtype) {
  return static_cast<size_t>(std::ranges::find(kTypeOrder, dtype) - std::begin(kTypeOrder));
}

void SortForFile(std::vector<const TensorToWrite*>* tensors) {
  std::ranges::sort(*tensors, [](const TensorToWrite* a, const TensorToWrite* b) {
    const size_t x = TypeRank(a->dtype), y = TypeRank(b->dtype);
    return x != y ? x > y : a->name < b->name;
  });
}

std::string Quote(const std::string& text) { return DumpJson(Json(text), -1); }

std::string FormatHeader(const std::vector<const TensorToWrite*>& tensors, const MetaList& metadata,
                         const std::string& file) {
  std::string text = "{";
  const auto separate = [&] {
    if (text.size() > 1) text += ",";
  };
  if (!metadata.empty()) {
    std::string inner;
    for (const auto& [key, value] : metadata) {
      const auto string = value.AsString();
      if (!string || !IsValidUtf8(*string) || !IsValidUtf8(key)) {
        RefuseToWrite(file, key, "safetensors metadata holds nothing but UTF-8 strings");
      }
      if (!inner.empty()) inner += ',';
      inner += Quote(key);
      inner += ':';
      inner += Quote(std::string(*string));
    }
    text += "\"__metadata__\":{" + inner + "}";
  }
  uint64_t offset = 0;
  for (const TensorToWrite* tensor : tensors) {
    const uint64_t bytes = TensorWriteBytes(Container::kSafetensors, *tensor);
    separate();
    text += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        Quote(tensor->name), InfoOf(tensor->dtype).safetensors_name,
                        fmt::join(tensor->shape.dims(), ","), offset, offset + bytes);
    offset += bytes;
  }
  text += "}";
  text.append(AlignUp(text.size(), 8) - text.size(), ' ');
  if (text.size() > kMaxSafetensorsHeader) RefuseToWrite(file, "", "the header would exceed 100 MB");
  return text;
}

// Writes everything but the commit, so that several shards can appear together.
void FillFile(OutputFile* out, std::vector<const TensorToWrite*> tensors, const MetaList& metadata) {
  SortForFile(&tensors);
  const std::string header = FormatHeader(tensors, metadata, out->path());
  char length[8];
  StoreLe<uint64_t>(length, header.size());
  out->Write(std::string_view(length, sizeof length));
  out->Write(header);
  for (const TensorToWrite* tensor : tensors) {
    StreamTensor(*tensor, TensorWriteBytes(Container::kSafetensors, *tensor),
                 [&](Bytes bytes) { out->Write(bytes); });
  }
}

using Shard = std::vector<const TensorToWrite*>;

// Consecutive tensors fill a shard up to the limit; a larger one has a shard of its own.
std::vector<Shard> DivideIntoShards(const std::vector<TensorToWrite>& tensors, uint64_t limit) {
  std::vector<Shard> shards(1);
  uint64_t used = 0;
  for (const TensorToWrite& tensor : tensors) {
    const uint64_t bytes = TensorWriteBytes(Container::kSafetensors, tensor);
    if (!shards.back().empty() && (bytes > limit || used > limit - bytes)) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(&tensor);
    used += bytes;
  }
  return shards;
}

std::string ShardName(size_t index, size_t count) {
  if (count == 1) return kSingleName;
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

std::string FormatIndex(const std::vector<Shard>& shards) {
  std::vector<std::pair<std::string_view, size_t>> rows;
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const TensorToWrite* tensor : shards[i]) {
      rows.emplace_back(tensor->name, i);
      total += TensorWriteBytes(Container::kSafetensors, *tensor);
    }
  }
  std::ranges::sort(rows);
  std::string text = fmt::format("{{\n  \"metadata\": {{\n    \"total_size\": {}\n  }},\n"
                                 "  \"weight_map\": {{", total);
  for (size_t i = 0; i < rows.size(); ++i) {
    text += fmt::format("{}\n    {}: {}", i > 0 ? "," : "", Quote(std::string(rows[i].first)),
                        Quote(ShardName(rows[i].second, shards.size())));
  }
  return text + "\n  }\n}\n";
}

bool IsWeightFile(const std::string& name) {
  const bool shard = name.starts_with("model-") && name.ends_with(".safetensors") &&
                     name.find("-of-") != name.npos;
  return name == kSingleName || name == kSafetensorsIndex || shard;
}

std::vector<fs::path> OldWeightFiles(const std::string& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (IsWeightFile(entry.path().filename().string())) out.push_back(entry.path());
  }
  std::ranges::sort(out);
  return out;
}

// The index goes first: without it a folder with some of its shards is no model to anybody.
void RemoveOldWeights(const std::string& folder) {
  std::error_code error;
  fs::remove(fs::path(folder) / kSafetensorsIndex, error);
  for (const fs::path& old : OldWeightFiles(folder)) {
    if (!fs::remove(old, error) && error) {
      throw Error(ErrorCode::kIo, "cannot remove: " + error.message(), {.file = old.string()});
    }
  }
}

}  // namespace

void WriteSafetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                      const MetaList& metadata, Overwrite overwrite) {
  CheckNamesToWrite(tensors, path, kMaxNameInHeader);
  Shard all;
  for (const TensorToWrite& tensor : tensors) all.push_back(&tensor);
  OutputFile out(path, overwrite);
  FillFile(&out, all, metadata);
  out.Commit();
}

std::vector<std::string> WriteSafetensorsFolder(ShardedWriteArgs args) {
  CheckNamesToWrite(args.tensors, args.folder, kMaxNameInHeader);
  OutputFolder folder(args.folder);
  if (args.overwrite == Overwrite::kRefuse && !OldWeightFiles(args.folder).empty()) {
    throw Error(ErrorCode::kValidationFailed, "exists; give --force to replace it",
                {.file = OldWeightFiles(args.folder)[0].string()});
  }
  const std::vector<Shard> shards = DivideIntoShards(args.tensors, args.max_shard_bytes);
  std::vector<std::string> names;
  std::vector<std::unique_ptr<OutputFile>> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    names.push_back(ShardName(i, shards.size()));
    const std::string path = (fs::path(args.folder) / names.back()).string();
    files.push_back(std::make_unique<OutputFile>(path, args.overwrite));
    FillFile(files.back().get(), shards[i], args.metadata);
  }
  if (args.overwrite == Overwrite::kAllow) RemoveOldWeights(args.folder);
  for (const auto& file : files) file->Commit();
  if (shards.size() > 1) {
    WriteTextFile((fs::path(args.folder) / kSafetensorsIndex).string(), FormatIndex(shards), args.overwrite);
  }
  folder.Keep();
  return names;
}

}  // namespace apr
