// apr export: a model written as another engine loads it.

#include <memory>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/write_model.h"

namespace apr {
namespace {

struct ExportArgs {
  std::string model;
  WriteModelArgs write;
};

int Run(const ExportArgs& args, Console& console) {
  const auto model = Model::Load(args.model);
  const ExportReport report = WriteModel(model, args.write, console);
  PrintReport(args.model, args.write, report, model->unread_tensors(), console);
  return 0;
}

CommandRunner DefineExport(Flags& app) {
  auto args = std::make_shared<ExportArgs>();
  app.AddOption("MODEL", args->model, "safetensors folder or file, GGUF or .apr")->Required();
  AddWriteFlags(app, args->write);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kExportCommand = {
    .name = "export",
    .group = "Changing and moving models",
    .summary = "Write a model as another engine loads it",
    .example = "  apr export model.gguf --format safetensors --dtype f32 -o model-f32\n"
               "  apr export model-folder --format gguf --quantize Q4_K_M -o model.gguf",
    .define = DefineExport,
};

}  // namespace apr
