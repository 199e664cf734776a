// See export_model.h.
#include "model/export_model.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
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

void CopyCompanions(const ModelFile& file, const std::function<void(const std::string&, std::string_view)>& write) {
  if (file.container() != Container::kSafetensors) return;
  for (const char* name : kCompanions) {
    if (const auto from = file.Companion(name)) write(name, AsText(MappedFile::Open(*from)->bytes()));
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

std::vector<TensorToWrite> TensorsToExport(const std::shared_ptr<const Model>& model, const ExportOptions& options,
                                           const std::vector<TensorRule>& target, const ChooseType& choose, Container container) {
  EncodeContext encode = options.encode;
  encode.buffers = std::make_shared<EncodeBuffers>();
  encode.container = container;
  return options.tensors ? options.tensors(target, choose, encode) : ExportTensors(model, target, choose, encode);
}

namespace {

// A folder that does not exist yet is built under another name and appears when it is whole.
class FolderInTheMaking {
 public:
  explicit FolderInTheMaking(const std::string& out) : out_(out), work_(out) {
    while (work_.size() > 1 && work_.back() == '/') work_.pop_back();
    if (fs::exists(out)) return;
    const fs::path parent = fs::path(work_).parent_path();
    std::error_code failed;
    if (!parent.empty()) fs::create_directories(parent, failed);
    work_ += ".XXXXXX";
    if (mkdtemp(work_.data()) == nullptr) throw Error(ErrorCode::kIo, std::string("cannot make the folder: ") + std::strerror(errno), {.file = out});
    fs::permissions(work_, fs::perms(0755), failed);
    fresh_ = true;
  }
  ~FolderInTheMaking() {
    std::error_code ignored;
    if (fresh_) fs::remove_all(work_, ignored);
  }
  FolderInTheMaking(const FolderInTheMaking&) = delete;
  FolderInTheMaking& operator=(const FolderInTheMaking&) = delete;

  const std::string& path() const { return work_; }
  void Finish(ExportReport& report) {
    if (!fresh_) return;
    std::error_code failed;
    fs::rename(work_, out_, failed);
    if (failed) throw Error(ErrorCode::kIo, "cannot give the finished folder its name: " + failed.message(), {.file = out_});
    for (std::string& file : report.files) file = out_ + file.substr(work_.size());
    fresh_ = false;
  }

 private:
  const std::string out_;
  std::string work_;
  bool fresh_ = false;
};

}  // namespace

ExportReport ExportSafetensors(std::shared_ptr<const Model> model, const ExportOptions& options) {
  if (options.overwrite == Overwrite::kRefuse && fs::exists(options.out + "/config.json")) {
    throw Error(ErrorCode::kValidationFailed, "exists; give --force to replace it", {.file = options.out + "/config.json"});
  }
  ExportReport report;
  const ChooseType choose = [&](const std::string& name, const Shape& shape, DType stored) {
    return options.choose ? options.choose(name, shape, stored) : SafetensorsType(options, stored);
  };
  auto tensors = TensorsToExport(model, options, model->architecture().hf, choose, Container::kSafetensors);
  report.tensors = tensors.size();
  const Json config = HfConfig(*model, TorchDtype(tensors));
  MetaBuilder metadata;
  metadata.SetString("format", "pt");
  FolderInTheMaking folder(options.out);
  for (const std::string& file : WriteSafetensorsFolder({.folder = folder.path(),
                                                         .tensors = std::move(tensors),
                                                         .metadata = metadata.list(),
                                                         .max_shard_bytes = options.max_shard_bytes,
                                                         .overwrite = options.overwrite})) {
    report.files.push_back(folder.path() + "/" + file);
  }
  const auto write = [&](const std::string& name, std::string_view text) {
    report.files.push_back(folder.path() + "/" + name);
    WriteTextFile(report.files.back(), text, options.overwrite);
  };
  write("config.json", DumpJson(config) + "\n");
  CopyCompanions(model->file(), write);
  for (const auto& [name, text] : options.companions) write(name, text);
  folder.Finish(report);
  return report;
}

}  // namespace apr
