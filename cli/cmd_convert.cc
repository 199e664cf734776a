// apr convert and apr import: any container to any other.
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/write_model.h"
#include "cli/writing_commands.h"
#include "model/provenance.h"

namespace apr {
namespace {

struct ConvertArgs {
  std::string model;
  WriteModelArgs write;
  bool strict = false;
  bool enforce_provenance = false;
};

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
  const auto model = Model::Load(args.model);
  Check(args, *model);
  const ExportReport report = WriteModel(model, args.write, console);
  PrintReport(args.model, args.write, report, model->unread_tensors(), console);
  return 0;
}

CommandRunner DefineConvert(Flags& app) {
  auto args = std::make_shared<ConvertArgs>();
  app.AddOption("MODEL", args->model, "safetensors folder or file, GGUF or .apr")->Required();
  AddWriteFlags(app, args->write);
  return [args](Console& console) { return Run(*args, console); };
}

CommandRunner DefineImport(Flags& app) {
  auto args = std::make_shared<ConvertArgs>();
  app.AddOption("SOURCE", args->model, "safetensors folder or file, GGUF or .apr")->Required();
  AddWriteFlags(app, args->write);
  app.AddFlag("--strict", args->strict, "refuse a model with tensors or settings that nothing reads");
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
               "  apr convert model.apr -o model-folder",
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
