// Writing a model as another engine loads it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/output_file.h"
#include "model/model.h"

namespace apr {

struct ExportOptions {
  std::string out;                   // a folder for safetensors
  std::optional<DType> dtype;        // of matrices; nullopt: as stored
  uint64_t max_shard_bytes = 5'000'000'000;
  Overwrite overwrite = Overwrite::kRefuse;
  // Further files, name and text: what a container keeps inside and a folder beside the weights.
  std::vector<std::pair<std::string, std::string>> companions;
};

struct ExportReport {
  std::vector<std::string> files;     // written, in order
  std::vector<std::string> warnings;  // what could not travel
  uint64_t tensors = 0;
};

// A folder as transformers loads it: weights, config.json, and what the source has of tokenizer and
// generation files. Block types are decoded to f32 unless `dtype` says otherwise.
ExportReport ExportSafetensors(std::shared_ptr<const Model> model, const ExportOptions& options);

}  // namespace apr
