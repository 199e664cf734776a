// A tiny model in memory, to be changed and written out: for tests that plant faults.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "format/model_file.h"

namespace apr {

struct PlantedTensor {
  Shape shape;
  std::vector<float> values;
  DType dtype = DType::kF32;  // to be written as

  std::vector<float> Row(int64_t row) const;
  void FillRow(int64_t row, float value);
};

class PlantedModel {
 public:
  // Decodes every tensor of the folder `name` below testdata/model and takes its config.json.
  explicit PlantedModel(const std::string& name);

  PlantedTensor& operator[](const std::string& name) { return tensors.at(name); }

  // A folder with model.safetensors and config.json.
  void WriteFolder(const std::string& path) const;
  // One .apr file whose metadata are the keys of the configuration, and `more`.
  void WriteApr(const std::string& path, const Json& more = Json::object()) const;
  // A GGUF without any key but what `metadata` says.
  void WriteGguf(const std::string& path, const MetaList& metadata = {}) const;

  std::map<std::string, PlantedTensor> tensors;
  Json config;
};

// Replaces bytes of a file.
void PatchFile(const std::string& path, uint64_t offset, const std::string& bytes);
// Where the tensor's bytes begin.
uint64_t OffsetOf(const std::string& path, const std::string& tensor);

}  // namespace apr
