// apr stamp: provenance, architecture or tokenizer of an .apr file, its tensors untouched.
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/writing_commands.h"
#include "format/apr_stamp.h"
#include "tokenizer/carry.h"

namespace apr {
namespace {

struct StampArgs {
  std::string file, out;
  std::string license, data_source, data_license, hf_architecture, hf_model_type, architecture, tokenizer;
  bool force = false;
};

int Run(const StampArgs& args, Console& console) {
  const auto file = ModelFile::Open(args.file);
  MetaBuilder patch;
  const std::pair<const char*, const std::string*> texts[] = {
      {"license", &args.license}, {"data_source", &args.data_source}, {"data_license", &args.data_license},
      {"hf_architecture", &args.hf_architecture}, {"hf_model_type", &args.hf_model_type}, {"architecture", &args.architecture}};
  for (const auto& [key, value] : texts) {
    if (!value->empty()) patch.SetString(key, *value);
  }
  if (!args.tokenizer.empty()) {
    const MetaValue* size = file->Meta("vocab_size");
    if (size == nullptr || !size->AsInt()) throw Error(ErrorCode::kInvalidFormat, "the file states no vocab_size", {.file = args.file, .tensor = "vocab_size"});
    const CarriedTokenizer tokenizer = AprTokenizer(args.tokenizer, *size->AsInt());
    for (const std::string& warning : tokenizer.warnings) console.Warn(warning);
    for (const auto& [key, value] : tokenizer.metadata.list()) patch.Set(key, value);
  }
  StampApr(file, {.out = args.out, .patch = patch.list(), .overwrite = args.force ? Overwrite::kAllow : Overwrite::kRefuse});
  Json keys = Json::array();
  for (const auto& entry : patch.list()) keys.push_back(entry.first);
  if (console.json()) console.Document({{"file", args.file}, {"out", args.out}, {"stamped", keys}});
  console.Line(fmt::format("{} keys stamped into {}", keys.size(), args.out));
  return 0;
}

CommandRunner DefineStamp(Flags& app) {
  auto args = std::make_shared<StampArgs>();
  app.AddOption("FILE", args->file, ".apr file")->Required();
  app.AddOption("--license", args->license, "licence of the weights");
  app.AddOption("--data-source", args->data_source, "what the model was trained on");
  app.AddOption("--data-license", args->data_license, "licence of that");
  app.AddOption("--hf-architecture", args->hf_architecture, "class of transformers: LlamaForCausalLM");
  app.AddOption("--hf-model-type", args->hf_model_type, "model_type of transformers");
  app.AddOption("--architecture", args->architecture, "family");
  app.AddOption("--tokenizer", args->tokenizer, "folder with tokenizer.json")->TypeName("DIR");
  app.AddOption("-o,--out", args->out, "file to write")->Required();
  app.AddFlag("--force", args->force, "replace an existing file");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kStampCommand = {
    .name = "stamp",
    .group = "Changing and moving models",
    .summary = "Other metadata for an .apr file",
    .example = "  apr stamp model.apr --license apache-2.0 -o stamped.apr",
    .define = DefineStamp,
};

}  // namespace apr
