// safetensors: reader of one file and of the index of a sharded model. Source: huggingface/safetensors,
// README.md, section "Format". Byte table: docs/formats/safetensors.md.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "format/model_file.h"

namespace apr {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, as the safetensors crate
inline constexpr char kSafetensorsIndex[] = "model.safetensors.index.json";

// The first bytes look like a safetensors header: a length, then '{'.
bool LooksLikeSafetensors(Bytes bytes);

// Appends `file` with its tensors and `__metadata__` to `parts`. Throws kInvalidFormat (tensor, offset).
void ReadSafetensors(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts);

// model.safetensors.index.json: which shard holds which tensor.
struct SafetensorsIndex {
  std::vector<std::string> shards;                // file names in the index's folder, sorted
  std::map<std::string, size_t> weight_map;       // tensor name -> index into shards
};

// `text` is the JSON, `file` its name for errors. Throws kInvalidFormat; a shard's name that leads out
// of the folder is refused.
SafetensorsIndex ParseSafetensorsIndex(std::string_view text, const std::string& file);

// Opens every shard of the index at `index_path` and checks that each tensor lies where the index says.
void ReadSafetensorsSharded(const std::string& index_path, ModelFileParts* parts);

}  // namespace apr
