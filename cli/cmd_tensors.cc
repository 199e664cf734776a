// apr tensors: names, shapes, types and statistics of the tensors of a file; extracting them.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "format/model_writer.h"
#include "quant/quant.h"
#include "quant/scan.h"

namespace apr {
namespace {

struct TensorsArgs {
  std::string file;
  std::string filter;
  int64_t limit = 0;
  bool stats = false;
  std::string extract;
  std::string out;
  std::string dtype = "f32";
  bool force = false;
};

using Selection = std::vector<const TensorInfo*>;

Selection Select(const ModelFile& file, const TensorsArgs& args) {
  Selection out;
  for (const TensorInfo& info : file.tensors()) {
    if (info.name.find(args.filter) != info.name.npos) out.push_back(&info);
  }
  if (args.limit > 0 && out.size() > static_cast<size_t>(args.limit)) out.resize(static_cast<size_t>(args.limit));
  return out;
}

uint64_t BytesOf(const Selection& tensors) {
  uint64_t bytes = 0;
  for (const TensorInfo* info : tensors) bytes += info->bytes;
  return bytes;
}

std::vector<Statistics> AllStatistics(const ModelFile& file, const Selection& tensors) {
  std::vector<Statistics> out;
  Progress progress("statistics", BytesOf(tensors));
  for (const TensorInfo* info : tensors) {
    if (!CanDecode(info->dtype)) {
      throw Error(ErrorCode::kNotBuilt, fmt::format("no decoder for {}", NameOf(info->dtype)),
                  {.file = file.path(), .tensor = info->name});
    }
    out.push_back(DecodedStatistics(file.View(*info)));
    progress.Add(info->bytes);
  }
  return out;
}

Json ToJson(const ModelFile& file, const Selection& tensors, const std::vector<Statistics>& statistics) {
  Json list = Json::array();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo& info = *tensors[i];
    Json entry = {{"name", info.name},
                  {"shape", std::vector<int64_t>(info.shape.dims().begin(), info.shape.dims().end())},
                  {"dtype", NameOf(info.dtype)},
                  {"size_bytes", info.bytes},
                  {"file", file.files()[static_cast<size_t>(info.file)]->path()},
                  {"offset", info.offset}};
    if (!statistics.empty()) {
      entry.update(StatisticsToJson(statistics[i]));
      entry["zero_count"] = statistics[i].zero_count;
    }
    list.push_back(std::move(entry));
  }
  uint64_t bytes = 0;
  for (const TensorInfo& info : file.tensors()) bytes += info.bytes;
  return {{"file", file.path()},
          {"format", ContainerName(file.container())},
          {"format_version", file.format_version()},
          {"tensor_count", file.tensors().size()},
          {"total_size_bytes", bytes},
          {"shown", tensors.size()},
          {"tensors", std::move(list)}};
}

void Print(const Selection& tensors, const std::vector<Statistics>& statistics, const ModelFile& file, Console& console) {
  TextTable table(statistics.empty() ? "<<<>" : "<<<>>>>>>>");
  if (!statistics.empty()) table.Row({"name", "type", "shape", "size", "mean", "std", "min", "max", "nan", "inf"});
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo& info = *tensors[i];
    std::vector<std::string> row = {info.name, NameOf(info.dtype), info.shape.ToString(), HumanBytes(info.bytes)};
    if (!statistics.empty()) {
      const Statistics& s = statistics[i];
      for (const double v : {s.mean, s.std, s.min, s.max}) row.push_back(fmt::format("{:.5g}", v));
      row.push_back(std::to_string(s.nan_count));
      row.push_back(std::to_string(s.inf_count));
    }
    table.Row(std::move(row));
  }
  console.Text(table.ToString());
  if (tensors.size() < file.tensors().size()) {
    console.Line(fmt::format("({} of {} tensors)", tensors.size(), file.tensors().size()));
  }
}

int Extract(const std::shared_ptr<const ModelFile>& file, const TensorsArgs& args, Console& console) {
  std::vector<TensorToWrite> out;
  for (const TensorInfo& info : file->tensors()) {
    if (args.extract != "all" && info.name != args.extract) continue;
    if (args.dtype == "as-stored") {
      out.push_back(CopyOf(file, info, info.name));
      continue;
    }
    const auto write = [file, &info](const ByteSink& sink) {
      ForEachDecodedPiece(file->View(info), [&](std::span<const float> values) { sink(std::as_bytes(values)); });
    };
    out.push_back({info.name, DType::kF32, info.shape, write});
  }
  if (out.empty()) {
    throw Error(ErrorCode::kValidationFailed, fmt::format("no tensor '{}'", args.extract), {.file = args.file});
  }
  const size_t count = out.size();
  WriteSafetensors(args.out, std::move(out), {}, args.force ? Overwrite::kAllow : Overwrite::kRefuse);
  if (console.json()) {
    console.Document({{"file", args.file}, {"out", args.out}, {"tensors", count}, {"dtype", args.dtype}});
  } else {
    console.Line(fmt::format("{}: {} tensors, {}", args.out, count, args.dtype));
  }
  return 0;
}

int Run(const TensorsArgs& args, Console& console) {
  if (args.extract.empty() != args.out.empty()) throw Error(ErrorCode::kUsage, "--extract and --out belong together");
  const auto file = ModelFile::Open(args.file);
  if (!args.extract.empty()) return Extract(file, args, console);
  const Selection tensors = Select(*file, args);
  const std::vector<Statistics> statistics = args.stats ? AllStatistics(*file, tensors) : std::vector<Statistics>();
  if (console.json()) {
    console.Document(ToJson(*file, tensors, statistics));
  } else {
    Print(tensors, statistics, *file, console);
  }
  return 0;
}

CommandRunner DefineTensors(Flags& app) {
  auto args = std::make_shared<TensorsArgs>();
  app.AddOption("file", args->file, "file or folder")->Required()->TypeName("FILE");
  auto* stats = app.AddFlag("--stats", args->stats, "decode every tensor: mean, std, min, max, NaN and Inf counts");
  auto* filter = app.AddOption("--filter", args->filter, "only names that contain this")->TypeName("TEXT");
  auto* limit = app.AddOption("--limit", args->limit, "only the first N; 0: all")
                    ->Verify(Check::Range(int64_t{0}, INT64_MAX))
                    ->TypeName("N");
  auto* extract = app.AddOption("--extract", args->extract, "write this tensor, or all, to --out")
                      ->TypeName("NAME|all")
                      ->Excludes(stats)
                      ->Excludes(filter)
                      ->Excludes(limit);
  app.AddOption("--out", args->out, "a safetensors file for --extract")->TypeName("FILE")->Needs(extract);
  app.AddOption("--dtype", args->dtype, "of --extract: f32 (decoded) or as-stored")
      ->Verify(Check::OneOf({"f32", "as-stored"}))
      ->TypeName("NAME")
      ->Needs(extract);
  app.AddFlag("--force", args->force, "replace an existing --out")->Needs(extract);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kTensorsCommand = {
    .name = "tensors",
    .group = "Looking inside",
    .summary = "Tensors of a file: names, shapes, types, statistics; extract them",
    .example = "  apr tensors model.gguf --stats --filter blk.0.\n"
               "  apr tensors model.gguf --extract output_norm.weight --out norm.safetensors",
    .define = DefineTensors,
};

}  // namespace apr
