// See planted_model.h.
#include "cli/planted_model.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "cli/program_under_test.h"
#include "format/model_writer.h"
#include "quant/quant.h"

namespace apr {
namespace {

std::vector<TensorToWrite> ToWrite(const std::map<std::string, PlantedTensor>& tensors) {
  std::vector<TensorToWrite> out;
  for (const auto& [name, tensor] : tensors) {
    const auto write = [&t = tensor](const ByteSink& sink) {
      std::vector<std::byte> bytes(*StorageBytes(t.dtype, t.shape));
      EncodeRows(t.dtype, t.values.data(), t.shape.rows(), t.shape.cols(), nullptr, bytes.data());
      sink(bytes);
    };
    out.push_back({name, tensor.dtype, tensor.shape, write});
  }
  return out;
}

MetaList ToMetadata(const Json& object, MetaBuilder& builder) {
  for (const auto& [key, value] : object.items()) {
    if (value.is_string()) builder.SetString(key, value.get<std::string>());
    else if (value.is_boolean()) builder.SetBool(key, value.get<bool>());
    else if (value.is_number_integer()) builder.SetI64(key, value.get<int64_t>());
    else if (value.is_number()) builder.SetF64(key, value.get<double>());
    else builder.SetJsonText(key, DumpJson(value, -1));
  }
  return builder.list();
}

}  // namespace

std::vector<float> PlantedTensor::Row(int64_t row) const {
  const auto first = values.begin() + row * shape.cols();
  return {first, first + shape.cols()};
}

void PlantedTensor::FillRow(int64_t row, float value) { std::fill_n(values.begin() + row * shape.cols(), shape.cols(), value); }

PlantedModel::PlantedModel(const std::string& name) {
  const auto file = ModelFile::Open(APR_SOURCE_DIR "/testdata/model/" + name);
  for (const TensorInfo& info : file->tensors()) {
    PlantedTensor tensor{info.shape, std::vector<float>(static_cast<size_t>(info.shape.num_elements()))};
    DecodeTensor(file->View(info), tensor.values);
    tensors.emplace(info.name, std::move(tensor));
  }
  config = *file->config();
}

void PlantedModel::WriteFolder(const std::string& path) const {
  std::filesystem::create_directories(path);
  WriteSafetensors(path + "/model.safetensors", ToWrite(tensors), {}, Overwrite::kAllow);
  WriteText(path + "/config.json", DumpJson(config));
}

void PlantedModel::WriteApr(const std::string& path, const Json& more) const {
  Json all = config;
  all["hf_model_type"] = config["model_type"];
  all["architecture"] = config["model_type"];
  for (const auto& [key, value] : more.items()) all[key] = value;
  MetaBuilder builder;
  AprWriteArgs args;
  args.path = path;
  args.tensors = ToWrite(tensors);
  args.metadata = ToMetadata(all, builder);
  args.overwrite = Overwrite::kAllow;
  apr::WriteApr(args);
}

void PlantedModel::WriteGguf(const std::string& path, const MetaList& metadata) const {
  apr::WriteGguf(path, ToWrite(tensors), metadata, Overwrite::kAllow);
}

void PatchFile(const std::string& path, uint64_t offset, const std::string& bytes) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

uint64_t OffsetOf(const std::string& path, const std::string& tensor) { return ModelFile::Open(path)->Find(tensor)->offset; }

}  // namespace apr
