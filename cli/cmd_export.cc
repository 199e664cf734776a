// apr export: a model written as another engine loads it.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "model/export_model.h"
#include "tokenizer/export_json.h"

namespace apr {
namespace {

struct ExportArgs {
  std::string model;
  std::string format;
  std::string dtype = "as-stored";
  std::string out;
  uint64_t max_shard_mb = 5000;
  bool force = false;
};

std::optional<DType> ParseDtype(const std::string& name) {
  if (name == "as-stored") return std::nullopt;
  return DTypeFromName(name);
}

int Run(const ExportArgs& args, Console& console) {
  const auto model = Model::Load(args.model);
  for (const std::string& name : model->unread_tensors()) console.Warn("tensor " + name + " is not used by the model and was not written");
  const std::optional<TokenizerFiles> tokenizer = TokenizerFilesFromGguf(model->file());
  if (tokenizer) {
    for (const std::string& warning : tokenizer->warnings) console.Warn(warning);
  } else if (model->file().container() == Container::kApr) {
    console.Warn("the tokenizer inside the .apr file is not written to the folder");
  }
  const ExportReport report = ExportSafetensors(model, {.out = args.out,
                                                        .dtype = ParseDtype(args.dtype),
                                                        .max_shard_bytes = args.max_shard_mb * 1'000'000,
                                                        .overwrite = args.force ? Overwrite::kAllow : Overwrite::kRefuse,
                                                        .companions = tokenizer ? tokenizer->files : decltype(tokenizer->files){}});
  for (const std::string& warning : report.warnings) console.Warn(warning);
  if (console.json()) {
    console.Document({{"model", args.model}, {"format", args.format}, {"out", args.out}, {"tensors", report.tensors},
                      {"files", report.files}, {"warnings", report.warnings}, {"unused_tensors", model->unread_tensors()}});
  }
  console.Line(fmt::format("{} tensors in {} files:", report.tensors, report.files.size()));
  for (const std::string& file : report.files) console.Line("  " + file);
  return 0;
}

CommandRunner Define(Flags& app) {
  auto args = std::make_shared<ExportArgs>();
  app.AddOption("MODEL", args->model, "safetensors folder or file, GGUF or .apr")->Required();
  app.AddOption("--format", args->format, "what to write")->Required()->Verify(Check::OneOf({"safetensors"}));
  app.AddOption("--dtype", args->dtype, "element type; as-stored keeps plain types and decodes block types to f32")
      ->Verify(Check::OneOf({"f32", "f16", "bf16", "as-stored"}));
  app.AddOption("-o,--out", args->out, "folder to write")->Required();
  app.AddOption("--max-shard-size", args->max_shard_mb, "megabytes per file at most")->TypeName("MB")->Verify(Check::Positive());
  app.AddFlag("--force", args->force, "replace existing files");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kExportCommand = {
    .name = "export",
    .group = "Changing and moving models",
    .summary = "Write a model as another engine loads it",
    .example = "  apr export model.gguf --format safetensors --dtype f32 -o model-f32",
    .define = Define,
};

}  // namespace apr
