// One interface over every container: what tensors a file holds, where their bytes are, and its
// metadata, without reading tensor data. Files are mapped; opening costs milliseconds whatever the
// size; a reader bounds every count by the remaining bytes before it allocates.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json_fwd.h"
#include "base/mapped_file.h"
#include "format/meta_value.h"
#include "tensor/tensor.h"

namespace apr {

enum class Container { kSafetensors, kGguf, kApr };
const char* ContainerName(Container container);  // "safetensors", "gguf", "apr"

struct PackedWeight;
class ModelFile;

struct TensorInfo {
  std::string name;  // as the file spells it
  DType dtype = DType::kF32;
  Shape shape;          // row-major, [out, in] (GGUF's reversed dims already turned round)
  int file = 0;         // index into ModelFile::files(): shards
  uint64_t offset = 0;  // absolute, in that file
  uint64_t bytes = 0;
  std::shared_ptr<const PackedWeight> packed = nullptr;  // what stands for it in the file (packed_weights.h)
};

// Something odd that a careful tool reports and that does not stop reading.
struct FileWarning {
  std::string file;
  std::string what;  // one sentence
  std::string key;   // tensor or metadata key, may be empty
};

// What the reader of a container collects; ModelFile is made of it.
struct ModelFileParts {
  Container container = Container::kSafetensors;
  std::string path;
  std::string format_version;
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<TensorInfo> tensors;
  MetaList metadata;
  std::shared_ptr<const Json> config;
  std::vector<FileWarning> warnings;
  std::vector<std::shared_ptr<const void>> storage;  // what metadata borrows from beside the files
  std::shared_ptr<const ModelFile> stored = nullptr;  // the same file with the parts of its packed weights
};

class ModelFile {
 public:
  explicit ModelFile(ModelFileParts parts);
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  // `argument`: a file of any container (told by content, not by name), a safetensors index, or a folder
  // (model.safetensors.index.json, model.safetensors, first shard, first .gguf, first .apr). A part
  // of a split GGUF opens the whole of it. What is no path but "hf://org/repo", "org/repo" or a short name of
  // a model in the local cache opens that (hub_cache.h); nothing is ever fetched.
  // Throws kNotFound, kInvalidFormat (file, tensor or key, offset), kIo.
  static std::shared_ptr<const ModelFile> Open(const std::string& argument);
  // One file that is already mapped, without companions, shards or split parts. For bytes that are no
  // file on disk (tests, fuzzing).
  static std::shared_ptr<const ModelFile> FromMapped(std::shared_ptr<const MappedFile> file);

  Container container() const { return parts_.container; }
  const std::string& path() const { return parts_.path; }  // as given to Open, or found in the cache
  std::string folder() const;                              // where companions (config.json) lie
  const std::vector<std::shared_ptr<const MappedFile>>& files() const { return parts_.files; }
  uint64_t total_bytes() const;  // of all files
  // "GGUF 3", "APR 2.0", "safetensors".
  const std::string& format_version() const { return parts_.format_version; }

  const std::vector<TensorInfo>& tensors() const { return parts_.tensors; }  // file order
  const TensorInfo* Find(std::string_view name) const;                       // nullptr if absent
  // Valid while this object lives. Rows of a K-quant in .apr may be padded to whole blocks: then
  // view.bytes is longer than its shape needs by itself (quant/quant.h's DecodeTensor knows).
  // Not of a packed tensor: nowhere are its bytes as they are described here (model/transform.h reads it).
  TensorView View(const TensorInfo& info) const;
  // The same also of a packed tensor, for row arithmetic; then no byte may be read.
  TensorView Layout(const TensorInfo& info) const;
  // Tells the kernel that the tensor's bytes are not needed any more (MappedFile::DontNeed).
  void DontNeed(const TensorInfo& info) const;

  // GGUF key/values or .apr metadata (its top-level keys; nested values as Type::kJson text), in file
  // order. safetensors: the `__metadata__` strings.
  const MetaList& metadata() const { return parts_.metadata; }
  const MetaValue* Meta(std::string_view key) const;

  // The Hugging Face config.json next to a safetensors file (nullptr if there is none).
  const Json* config() const { return parts_.config.get(); }
  // Path of a companion file (e.g. "tokenizer.json", "generation_config.json") if it exists.
  std::optional<std::string> Companion(std::string_view name) const;

  const std::vector<FileWarning>& warnings() const { return parts_.warnings; }

 private:
  ModelFileParts parts_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
  std::unordered_map<std::string_view, size_t> metadata_index_;
};

}  // namespace apr
