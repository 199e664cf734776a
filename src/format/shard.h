// One model in several files and back, byte for byte, in the way of each container: split GGUF as
// llama.cpp's gguf-split names it, safetensors with an index, .apr shards with a manifest.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "format/model_writer.h"

namespace apr {

struct ShardArgs {
  std::string folder;  // made if absent
  std::string stem = "model";
  uint64_t max_bytes = 5'000'000'000;  // of tensors in one file; a larger tensor has a file of its own
  Overwrite overwrite = Overwrite::kRefuse;
};

// Returns the files written, the index or manifest last.
std::vector<std::string> ShardFile(std::shared_ptr<const ModelFile> file, const ShardArgs& args);

// `path`: a manifest of .apr shards, else whatever ModelFile opens as one model. Throws kInvalidFormat
// when a shard is missing, has another size or other tensors than the manifest says.
void UnshardFile(const std::string& path, const std::string& out, Overwrite overwrite);

}  // namespace apr
