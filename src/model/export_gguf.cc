// ExportGguf of export_model.h. Which tensors stay f32: llama.cpp conversion/base.py, prepare_tensors.
#include "format/model_writer.h"
#include "model/export_model.h"
#include "model/gguf_file_type.h"
#include "model/gguf_metadata.h"
#include "model/provenance.h"

namespace apr {
namespace {

bool EndsWith(std::string_view name, std::string_view end) {
  return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
}

DType StoredInGguf(DType stored) {
  const DTypeInfo& info = InfoOf(stored);
  return info.ggml_id >= 0 && info.is_float && stored != DType::kF64 ? stored : DType::kF32;
}

}  // namespace

bool StaysF32InGguf(std::string_view name, const Shape& shape) {
  if (shape.ndim() < 2) return true;
  return EndsWith(name, "_norm.weight") || EndsWith(name, ".bias") || name.find("ffn_gate_inp") != std::string_view::npos ||
         name == "position_embd.weight";
}

ExportReport ExportGguf(std::shared_ptr<const Model> model, const ExportOptions& options) {
  const ChooseType choose = [&](const std::string& name, const Shape& shape, DType stored) {
    if (StaysF32InGguf(name, shape)) return DType::kF32;
    if (options.choose) return options.choose(name, shape, stored);
    return options.dtype ? *options.dtype : StoredInGguf(stored);
  };
  auto tensors = TensorsToExport(model, options, model->architecture().gguf_names, choose, Container::kGguf);
  // A row of its own shape there, not a matrix of one row: other readers add the dimension themselves.
  for (TensorToWrite& tensor : tensors) {
    if (EndsWith(tensor.name, ".ffn_gate_inp_shexp.weight")) tensor.shape = Shape{tensor.shape.num_elements()};
  }
  GgufDescription description = DescribeForGguf(*model, tensors);
  MetaBuilder metadata;
  const auto add = [&](const MetaList& list) {
    for (const auto& [key, value] : list) metadata.Set(key, value);
  };
  metadata.SetString("general.architecture", model->architecture().gguf);
  add(GgufProvenance(model->file()).list());
  const std::optional<uint32_t> named = options.mix.empty() ? std::nullopt : GgufFileTypeOf(options.mix);
  metadata.SetU32("general.file_type", named ? *named : GgufFileType(tensors));
  if (IsQuantisedGguf(tensors)) metadata.SetU32("general.quantization_version", 2);
  add(description.metadata.list());
  add(options.metadata);
  for (TensorToWrite& extra : description.rope_tensors) tensors.insert(tensors.begin(), std::move(extra));
  WriteGguf(options.out, tensors, metadata.list(), options.overwrite);
  return {.files = {options.out}, .warnings = std::move(description.warnings), .tensors = tensors.size()};
}

}  // namespace apr
