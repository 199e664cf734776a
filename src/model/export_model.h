// Writing a model as another engine loads it: a folder of safetensors, a GGUF, an .apr file.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/output_file.h"
#include "model/export_tensors.h"
#include "model/model.h"

namespace apr {

// Tensors of `target` names in the types that `choose` gives: ExportTensors of the model, or what somebody
// puts in its place (a merge).
using TensorSource = std::function<std::vector<TensorToWrite>(const std::vector<TensorRule>& target, const ChooseType& choose,
                                                              const EncodeContext& context)>;

struct ExportOptions {
  std::string out;                   // a folder for safetensors, else a file
  std::optional<DType> dtype;        // of matrices; nullopt: as stored
  ChooseType choose;                 // if set, decides instead of `dtype`
  TensorSource tensors;              // if set, gives the tensors instead of the model
  EncodeContext encode;              // threads, importance; the container is filled in
  std::string mix;                   // GGUF: name of the mix, for general.file_type; empty: by the types
  uint64_t max_shard_bytes = 5'000'000'000;
  AprCompression compression = AprCompression::kNone;  // .apr
  Overwrite overwrite = Overwrite::kRefuse;
  // Further files, name and text: what a container keeps inside and a folder beside the weights.
  std::vector<std::pair<std::string, std::string>> companions;
  // GGUF and .apr: further metadata (tokenizer, template, provenance), by the container's own keys.
  MetaList metadata;
};

struct ExportReport {
  std::vector<std::string> files;     // written, in order
  std::vector<std::string> warnings;  // what could not travel, or what other engines will not read
  uint64_t tensors = 0;
};

// A folder as transformers loads it: weights, config.json, and what the source has of tokenizer and
// generation files. Block types are decoded to f32 unless `dtype` says otherwise.
ExportReport ExportSafetensors(std::shared_ptr<const Model> model, const ExportOptions& options);

// A GGUF as llama.cpp loads it. Vectors, routers and position embeddings are f32, as its converter
// writes them. Throws kModelLoad naming what GGUF cannot express.
ExportReport ExportGguf(std::shared_ptr<const Model> model, const ExportOptions& options);

// An .apr file with the tensors' Hugging Face names and the configuration as top-level metadata.
ExportReport ExportApr(std::shared_ptr<const Model> model, const ExportOptions& options);

// The tensors that `options` ask for.
std::vector<TensorToWrite> TensorsToExport(const std::shared_ptr<const Model>& model, const ExportOptions& options,
                                           const std::vector<TensorRule>& target, const ChooseType& choose, Container container);

// True for tensors that GGUF keeps in f32 whatever type the matrices have.
bool StaysF32InGguf(std::string_view name, const Shape& shape);

}  // namespace apr
