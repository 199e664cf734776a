// apr shard and apr unshard: one model in several files and back.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "base/json.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/writing_commands.h"
#include "format/shard.h"

namespace apr {
namespace {

struct ShardCommandArgs {
  std::string model;
  std::string out;
  uint64_t max_shard_mb = 5000;
  bool force = false;
};

Overwrite OverwriteOf(const ShardCommandArgs& args) { return args.force ? Overwrite::kAllow : Overwrite::kRefuse; }

int Print(const ShardCommandArgs& args, const std::vector<std::string>& files, Console& console) {
  if (console.json()) console.Document({{"model", args.model}, {"files", files}});
  for (const std::string& file : files) console.Line(file);
  return 0;
}

int RunShard(const ShardCommandArgs& args, Console& console) {
  const auto file = ModelFile::Open(args.model);
  const std::string stem = file->container() == Container::kSafetensors ? "model" : std::filesystem::path(args.model).stem().string();
  return Print(args, ShardFile(file, {.folder = args.out, .stem = stem, .max_bytes = args.max_shard_mb * 1'000'000, .overwrite = OverwriteOf(args)}), console);
}

int RunUnshard(const ShardCommandArgs& args, Console& console) {
  UnshardFile(args.model, args.out, OverwriteOf(args));
  return Print(args, {args.out}, console);
}

CommandRunner DefineShard(Flags& app) {
  auto args = std::make_shared<ShardCommandArgs>();
  app.AddOption("MODEL", args->model, "GGUF, .apr, safetensors file or folder")->Required();
  app.AddOption("-o,--out", args->out, "folder for the parts")->Required();
  app.AddOption("--max-shard-size", args->max_shard_mb, "megabytes of tensors per file at most")->TypeName("MB")->Verify(Check::Positive());
  app.AddFlag("--force", args->force, "replace existing files");
  return [args](Console& console) { return RunShard(*args, console); };
}

CommandRunner DefineUnshard(Flags& app) {
  auto args = std::make_shared<ShardCommandArgs>();
  app.AddOption("MODEL", args->model, "first part of a GGUF, safetensors index or folder, manifest of .apr shards")->Required();
  app.AddOption("-o,--out", args->out, "file to write")->Required();
  app.AddFlag("--force", args->force, "replace an existing file");
  return [args](Console& console) { return RunUnshard(*args, console); };
}

}  // namespace

const Command kShardCommand = {
    .name = "shard",
    .group = "Changing and moving models",
    .summary = "One model file in several parts",
    .example = "  apr shard model.gguf --max-shard-size 2000 -o parts",
    .define = DefineShard,
};

const Command kUnshardCommand = {
    .name = "unshard",
    .group = "Changing and moving models",
    .summary = "The parts of a model in one file",
    .example = "  apr unshard parts/model-00001-of-00003.gguf -o model.gguf\n"
               "  apr unshard parts/model.manifest.json -o model.apr",
    .define = DefineUnshard,
};

}  // namespace apr
