// See quantize_gguf.h.
#include "model/quantize_gguf.h"

#include "format/imatrix.h"
#include "format/model_writer.h"
#include "model/gguf_file_type.h"

namespace apr {
namespace {

bool IsCarried(const std::string& key) {
  // Of a split file: what is written is one.
  return key.rfind("split.", 0) != 0 && key != "general.file_type" && key != "general.quantization_version";
}

// What llama.cpp's quantiser says about the importance matrix it used.
void NoteImportance(const TypePlanRequest& request, MetaBuilder& metadata) {
  if (request.imatrix.empty()) return;
  const auto matrix = ImportanceMatrix::Open(request.imatrix);
  metadata.SetString("quantize.imatrix.file", request.imatrix);
  if (!matrix->datasets().empty()) metadata.SetString("quantize.imatrix.dataset", matrix->datasets()[0]);
  metadata.SetU32("quantize.imatrix.entries_count", static_cast<uint32_t>(matrix->entries()));
  metadata.SetU32("quantize.imatrix.chunks_count", static_cast<uint32_t>(matrix->chunks()));
}

}  // namespace

ExportReport QuantizeGguf(std::shared_ptr<const ModelFile> file, const TypePlan& plan, const TypePlanRequest& request, const ExportOptions& options) {
  EncodeContext encode = options.encode;
  encode.buffers = std::make_shared<EncodeBuffers>();
  encode.container = Container::kGguf;
  encode.importance = plan.importance;
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& info : file->tensors()) {
    const DType dtype = plan.choose(info.name, info.shape, info.dtype);
    if (dtype == info.dtype) tensors.push_back(CopyOf(file, info, info.name));
    else tensors.push_back(Recoded(file, info, dtype, encode));
  }
  MetaBuilder metadata;
  for (const auto& [key, value] : file->metadata()) {
    if (IsCarried(key)) metadata.Set(key, value);
  }
  metadata.SetU32("general.file_type", GgufFileTypeOf(plan.mix).value_or(GgufFileType(tensors)));
  if (IsQuantisedGguf(tensors)) metadata.SetU32("general.quantization_version", 2);
  NoteImportance(request, metadata);
  WriteGguf(options.out, tensors, metadata.list(), options.overwrite);
  return {.files = {options.out}, .tensors = tensors.size()};
}

}  // namespace apr
