// See export_model.h.
#include "model/export_model.h"

#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "format/model_writer.h"
#include "model/export_config.h"
#include "model/export_tensors.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

// What transformers and this program read beside the weights.
constexpr const char* kCompanions[] = {
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "vocab.json",
    "merges.txt", "added_tokens.json", "chat_template.jinja", "generation_config.json", "LICENSE"};

void CopyCompanions(const ModelFile& file, const ExportOptions& options, ExportReport& report) {
  if (file.container() != Container::kSafetensors) return;
  for (const char* name : kCompanions) {
    const auto from = file.Companion(name);
    if (!from) continue;
    const std::string to = options.out + "/" + name;
    WriteTextFile(to, AsText(MappedFile::Open(*from)->bytes()), options.overwrite);
    report.files.push_back(to);
  }
}

// The type transformers is told: that of most elements.
std::string TorchDtype(const std::vector<TensorToWrite>& tensors) {
  std::map<DType, int64_t> elements;
  for (const TensorToWrite& tensor : tensors) elements[tensor.dtype] += tensor.shape.num_elements();
  DType most = DType::kF32;
  for (const auto& [dtype, count] : elements) {
    if (count > elements[most]) most = dtype;
  }
  return most == DType::kBF16 ? "bfloat16" : most == DType::kF16 ? "float16" : "float32";
}

DType SafetensorsType(const ExportOptions& options, DType stored) {
  if (options.dtype) return *options.dtype;
  return InfoOf(stored).block_elems == 1 && InfoOf(stored).safetensors_name != nullptr ? stored : DType::kF32;
}

}  // namespace

ExportReport ExportSafetensors(std::shared_ptr<const Model> model, const ExportOptions& options) {
  if (options.overwrite == Overwrite::kRefuse && fs::exists(options.out + "/config.json")) {
    throw Error(ErrorCode::kValidationFailed, "exists; give --force to replace it", {.file = options.out + "/config.json"});
  }
  ExportReport report;
  auto tensors = ExportTensors(model, model->architecture().hf, [&](const std::string&, const Shape&, DType stored) {
    return SafetensorsType(options, stored);
  });
  report.tensors = tensors.size();
  const Json config = HfConfig(*model, TorchDtype(tensors));
  MetaBuilder metadata;
  metadata.SetString("format", "pt");
  for (const std::string& file : WriteSafetensorsFolder({.folder = options.out,
                                                         .tensors = std::move(tensors),
                                                         .metadata = metadata.list(),
                                                         .max_shard_bytes = options.max_shard_bytes,
                                                         .overwrite = options.overwrite})) {
    report.files.push_back(options.out + "/" + file);
  }
  WriteTextFile(options.out + "/config.json", DumpJson(config) + "\n", options.overwrite);
  report.files.push_back(options.out + "/config.json");
  CopyCompanions(model->file(), options, report);
  for (const auto& [name, text] : options.companions) {
    WriteTextFile(options.out + "/" + name, text, options.overwrite);
    report.files.push_back(options.out + "/" + name);
  }
  return report;
}

}  // namespace apr
