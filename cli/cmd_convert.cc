// apr convert and apr import: any container to any other.
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/write_model.h"
#include "cli/writing_commands.h"
#include "format/model_writer.h"
#include "model/architecture.h"
#include "model/provenance.h"
#include "model/resolve.h"

namespace apr {
namespace {

struct ConvertArgs {
  std::string model;
  WriteModelArgs write;
  bool strict = false;
  bool enforce_provenance = false;
  bool allow_no_config = false;
  bool preserve_q4k = false;
  std::string arch = "auto";
};

// The file as if its config.json named another architecture. A GGUF and an .apr say theirs in many keys: not theirs to change.
std::shared_ptr<const ModelFile> AsArchitecture(std::shared_ptr<const ModelFile> file, const std::string& name) {
  const Architecture* wanted = FindByModelType(name);
  if (wanted == nullptr) throw Error(ErrorCode::kUsage, fmt::format("--arch: '{}' is no known architecture (apr architectures lists them)", name));
  if (file->config() == nullptr) {
    if (file->container() == Container::kSafetensors) return file;  // the missing config.json is told elsewhere
    if (ResolveConfig(*file).architecture == wanted) return file;
    throw Error(ErrorCode::kUsage, "--arch: only a folder with config.json can be read as another architecture", {.file = file->path()});
  }
  auto config = std::make_shared<Json>(*file->config());
  (*config)["model_type"] = name;
  config->erase("architectures");
  return std::make_shared<const ModelFile>(ModelFileParts{.container = file->container(), .path = file->path(), .format_version = file->format_version(),
                                                          .files = file->files(), .tensors = file->tensors(), .metadata = file->metadata(),
                                                          .config = std::move(config), .warnings = file->warnings(), .storage = {file}});
}

// Tensors as they lie there, of a file that says nothing of its model.
int CopyTensors(const ConvertArgs& args, const std::shared_ptr<const ModelFile>& file, Console& console) {
  if (!args.write.mix.empty() || (!args.write.dtype.empty() && args.write.dtype != "as-stored") || !args.write.tokenizer.empty() || args.strict) {
    throw Error(ErrorCode::kUsage, "without config.json tensors are only copied: no --dtype, --quantize, --tokenizer or --strict", {.file = args.model});
  }
  console.Warn("there is no config.json: tensors are copied, the result is no model yet");
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& info : file->tensors()) tensors.push_back(CopyOf(file, info, info.name));
  const Overwrite overwrite = args.write.force ? Overwrite::kAllow : Overwrite::kRefuse;
  ExportReport report{.files = {args.write.out}, .warnings = {"no config.json: only tensors"}, .tensors = tensors.size()};
  const Container target = TargetOf(args.write);
  if (target == Container::kGguf) {
    WriteGguf(args.write.out, tensors, GgufProvenance(*file).list(), overwrite);
  } else if (target == Container::kApr) {
    WriteApr({.path = args.write.out, .tensors = std::move(tensors), .metadata = AprProvenance(*file).list(), .overwrite = overwrite});
  } else {
    report.files.clear();
    for (const std::string& name : WriteSafetensorsFolder({.folder = args.write.out, .tensors = std::move(tensors), .metadata = file->metadata(),
                                                           .max_shard_bytes = args.write.max_shard_mb * 1'000'000, .overwrite = overwrite})) {
      report.files.push_back(args.write.out + "/" + name);
    }
  }
  PrintReport(args.model, args.write, report, {}, console);
  return 0;
}

// --preserve-q4k: blocks of Q4_K and Q6_K reach the output as they are.
void CheckPreserved(const ConvertArgs& args) {
  if (!args.write.mix.empty() || (!args.write.dtype.empty() && args.write.dtype != "as-stored")) {
    throw Error(ErrorCode::kUsage, "--preserve-q4k excludes --quantize and a --dtype other than as-stored");
  }
  if (TargetOf(args.write) == Container::kSafetensors) throw Error(ErrorCode::kUsage, "--preserve-q4k: safetensors cannot hold Q4_K");
}

// What `--strict` and `--enforce-provenance` refuse, before anything is written.
void Check(const ConvertArgs& args, const Model& model) {
  if (args.strict && !model.unread_tensors().empty()) {
    throw Error(ErrorCode::kValidationFailed, "a tensor that nothing reads, with --strict", {.file = args.model, .tensor = model.unread_tensors()[0]});
  }
  if (args.strict && !model.unread_keys().empty()) {
    throw Error(ErrorCode::kValidationFailed, "a setting that nothing reads, with --strict", {.file = args.model, .tensor = model.unread_keys()[0]});
  }
  if (!args.enforce_provenance) return;
  const MetaBuilder facts = GgufProvenance(model.file());
  for (const auto& [key, value] : facts.list()) {
    if (key == "general.license" && value.AsString() && !value.AsString()->empty()) return;
  }
  throw Error(ErrorCode::kValidationFailed, "no licence is stated, with --enforce-provenance", {.file = args.model, .tensor = "license"});
}

int Run(const ConvertArgs& args, Console& console) {
  if (args.preserve_q4k) CheckPreserved(args);
  std::shared_ptr<const ModelFile> file = ModelFile::Open(args.model);
  if (args.arch != "auto") file = AsArchitecture(std::move(file), args.arch);
  if (args.allow_no_config && file->container() == Container::kSafetensors && file->config() == nullptr) return CopyTensors(args, file, console);
  const auto model = Model::Load(std::move(file));
  Check(args, *model);
  const ExportReport report = WriteModel(model, args.write, console);
  PrintReport(args.model, args.write, report, model->unread_tensors(), console);
  return 0;
}

CommandRunner DefineConvert(Flags& app) {
  auto args = std::make_shared<ConvertArgs>();
  app.AddOption("MODEL", args->model, "safetensors folder or file, GGUF or .apr")->Required();
  AddWriteFlags(app, args->write);
  app.AddOption("--compress", args->write.compress, "pack an .apr, which is then read into memory whole (none)")
      ->Verify(Check::OneOf({"none", "zstd", "zstd-max", "lz4"}));
  return [args](Console& console) { return Run(*args, console); };
}

CommandRunner DefineImport(Flags& app) {
  auto args = std::make_shared<ConvertArgs>();
  app.AddOption("SOURCE", args->model, "safetensors folder or file, GGUF or .apr")->Required();
  AddWriteFlags(app, args->write);
  app.AddFlag("--strict", args->strict, "refuse a model with tensors or settings that nothing reads");
  app.AddOption("--arch", args->arch, "read a folder as this model_type whatever its config.json says (auto)")->TypeName("NAME");
  app.AddOption("--tokenizer", args->write.tokenizer, "a tokenizer.json in place of the source's")->TypeName("FILE");
  app.AddFlag("--allow-no-config", args->allow_no_config, "copy the tensors of a safetensors file that has no config.json");
  app.AddFlag("--preserve-q4k", args->preserve_q4k, "keep blocks of Q4_K and Q6_K byte for byte; nothing is encoded anew");
  app.AddFlag("--enforce-provenance", args->enforce_provenance, "refuse a model without a stated licence");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kConvertCommand = {
    .name = "convert",
    .group = "Changing and moving models",
    .summary = "Any of safetensors, GGUF and .apr to any other",
    .example = "  apr convert model-folder -o model.gguf\n"
               "  apr convert model.gguf -o model.apr\n"
               "  apr convert model.apr -o model-folder\n"
               "  apr convert model-folder -o model.apr --compress zstd",
    .define = DefineConvert,
};

const Command kImportCommand = {
    .name = "import",
    .group = "Changing and moving models",
    .summary = "Take in a model of another engine, with checks",
    .example = "  apr import model.gguf -o model.apr --strict --enforce-provenance",
    .define = DefineImport,
};

}  // namespace apr
