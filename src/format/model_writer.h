// Writers of every container. All stream: a writer is told all tensors' names, types and shapes first,
// writes its header, and then asks each tensor for its bytes in the order of the file; nothing but the
// tensor at hand need be in memory. Files appear under their final name only when they are whole
// (base/output_file.h).
//
// Errors: kValidationFailed (exists without Overwrite::kAllow; a name, type, shape or value that the
// container cannot hold, named), kIo.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/output_file.h"
#include "format/model_file.h"

namespace apr {

using ByteSink = std::function<void(Bytes)>;

struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;  // row-major
  // Called once. Hands over exactly TensorWriteBytes(container, dtype, shape) bytes, in as many pieces
  // as it likes.
  std::function<void(const ByteSink&)> write;
};

// Bytes a container needs for a tensor. Throws kValidationFailed if it cannot hold it.
uint64_t TensorWriteBytes(Container container, const TensorToWrite& tensor);

// A verbatim copy of a tensor of `file`, which is kept open, under another name.
TensorToWrite CopyOf(std::shared_ptr<const ModelFile> file, const TensorInfo& info, std::string name);

// One safetensors file. `metadata`: strings only. Tensors are stored as the reference writer orders
// them: widest type first, then by name.
void WriteSafetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                      const MetaList& metadata, Overwrite overwrite);

struct ShardedWriteArgs {
  std::string folder;                // made if absent
  std::vector<TensorToWrite> tensors;
  MetaList metadata;                 // strings, stored in every shard
  uint64_t max_shard_bytes = 5'000'000'000;
  Overwrite overwrite = Overwrite::kRefuse;
};
// A folder as Hugging Face loads it: model.safetensors if all fits into one shard, else
// model-0000i-of-0000N.safetensors and model.safetensors.index.json. Weights of an earlier save are
// removed, but only once all new bytes are on the disk. Returns the names of the weight files.
std::vector<std::string> WriteSafetensorsFolder(ShardedWriteArgs args);

// GGUF v3. The data's alignment is `general.alignment` of `metadata`, else 32.
void WriteGguf(const std::string& path, const std::vector<TensorToWrite>& tensors,
               const MetaList& metadata, Overwrite overwrite);

// Order of the tensors' bytes in an .apr file; its index is always sorted by name.
enum class AprOrder { kByName, kAsGiven };

// What everything after the header of an .apr file is packed by. A compressed file has to be unpacked into memory
// to be read; LZ4 holds at most 2 GB.
enum class AprCompression { kNone, kLz4, kZstd, kZstdMax };

struct AprWriteArgs {
  std::string path;
  std::vector<TensorToWrite> tensors;
  // Top-level keys in the order to write. The keys that no .apr may lack (model_type, total_size,
  // param_count, license, data_source, data_license) come first; total_size and param_count are counted,
  // whatever is given. Type::kJson values are written as they stand.
  MetaList metadata;
  AprOrder order = AprOrder::kByName;
  uint16_t flags = 0;  // hints to carry over; ROW_MAJOR is set, compression follows the next field
  AprCompression compression = AprCompression::kNone;
  Overwrite overwrite = Overwrite::kRefuse;
};
void WriteApr(const AprWriteArgs& args);

}  // namespace apr
