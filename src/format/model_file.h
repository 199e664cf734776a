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
#include <variant>
#include <vector>

#include "base/json_fwd.h"
#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace apr {

enum class Container { kSafetensors, kGguf, kApr };
const char* ContainerName(Container container);  // "safetensors", "gguf", "apr"

// A metadata value: GGUF's types; .apr's JSON is mapped onto them. Arrays stay views into the file
// until asked for (a vocabulary of 150,000 entries must not slow down opening).
class MetaValue {
 public:
  enum class Type { kU8, kI8, kU16, kI16, kU32, kI32, kU64, kI64, kF32, kF64, kBool, kString, kArray, kJson };

  Type type() const { return type_; }
  bool is_number() const { return type_ <= Type::kF64; }
  bool is_integer() const { return type_ <= Type::kI64; }

  // nullopt when the type does not fit (no silent conversion of strings; integers widen to double).
  std::optional<int64_t> AsInt() const;
  std::optional<double> AsDouble() const;
  std::optional<bool> AsBool() const;
  std::optional<std::string_view> AsString() const;

  // Arrays. element_type() and size() cost nothing; the getters decode. Strings are views into the
  // mapping (GGUF) or into storage owned by the ModelFile.
  Type element_type() const { return element_type_; }
  uint64_t size() const { return count_; }
  std::vector<std::string_view> AsStrings() const;   // empty if not an array of strings
  std::vector<double> AsDoubles() const;             // array of numbers, else empty
  std::vector<int64_t> AsInts() const;               // array of integers, else empty
  std::vector<float> AsFloats() const;

  // For printing: scalars in full, arrays as their first `limit` elements and a count.
  std::string ToString(size_t limit = 8) const;

  static MetaValue Scalar(Type type, std::variant<int64_t, uint64_t, double, bool> value);
  static MetaValue String(std::string_view borrowed);
  // `bytes`: the encoded elements as GGUF lays them out, already validated.
  static MetaValue Array(Type element, uint64_t count, Bytes bytes);

 private:
  Type type_ = Type::kBool;
  Type element_type_ = Type::kU8;
  uint64_t count_ = 0;
  std::variant<int64_t, uint64_t, double, bool> scalar_;
  std::string_view string_;
  Bytes bytes_;
};

struct TensorInfo {
  std::string name;     // as the file spells it
  DType dtype;
  Shape shape;          // row-major, [out, in] (GGUF's reversed dims already turned round)
  int file = 0;         // index into ModelFile::files(): shards
  uint64_t offset = 0;  // absolute, in that file
  uint64_t bytes = 0;
};

// Something odd that a careful tool reports and that does not stop reading.
struct FileWarning {
  std::string file;
  std::string what;     // one sentence
  std::string key;      // tensor or metadata key, may be empty
};

class ModelFile {
 public:
  virtual ~ModelFile() = default;

  // `path`: a file of any container (told by content, not by name), a safetensors index, or a folder
  // (model.safetensors.index.json, model.safetensors, first shard, first .gguf, first .apr).
  // Throws kNotFound, kInvalidFormat (file, tensor or key, offset), kIo.
  static std::shared_ptr<const ModelFile> Open(const std::string& path);

  Container container() const { return container_; }
  const std::string& path() const { return path_; }      // as given to Open
  std::string folder() const;                             // where companions (config.json) lie
  const std::vector<std::shared_ptr<const MappedFile>>& files() const { return files_; }
  uint64_t total_bytes() const;                           // of all files
  std::string format_version() const { return format_version_; }  // "GGUF 3", "APR 2.0", "safetensors"

  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // file order
  const TensorInfo* Find(std::string_view name) const;    // nullptr if absent
  TensorView View(const TensorInfo& info) const;          // valid while this object lives

  // GGUF key/values or .apr metadata (flattened keys; nested values as Type::kJson text), in file
  // order. safetensors: the `__metadata__` strings.
  const std::vector<std::pair<std::string, MetaValue>>& metadata() const { return metadata_; }
  const MetaValue* Meta(std::string_view key) const;

  // The Hugging Face config.json next to a safetensors file (nullptr if there is none).
  const Json* config() const { return config_.get(); }
  // Path of a companion file (e.g. "tokenizer.json", "generation_config.json") if it exists.
  std::optional<std::string> Companion(std::string_view name) const;

  const std::vector<FileWarning>& warnings() const { return warnings_; }

 protected:
  void BuildIndex();  // call once tensors_ and metadata_ are final

  Container container_ = Container::kSafetensors;
  std::string path_;
  std::string format_version_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::pair<std::string, MetaValue>> metadata_;
  std::shared_ptr<const Json> config_;
  std::vector<FileWarning> warnings_;

 private:
  std::unordered_map<std::string_view, size_t> tensor_index_;
  std::unordered_map<std::string_view, size_t> metadata_index_;
};

}  // namespace apr
