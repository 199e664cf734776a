// See write_model.h.
#include "cli/write_model.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "tokenizer/carry.h"

namespace apr {
namespace {

bool EndsWith(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::optional<DType> ParseDtype(const std::string& name) {
  if (name.empty() || name == "as-stored") return std::nullopt;
  return DTypeFromName(name);
}

AprCompression CompressionOf(const WriteModelArgs& args, Container target) {
  if (args.compress.empty() || args.compress == "none") return AprCompression::kNone;
  if (target != Container::kApr) throw Error(ErrorCode::kUsage, "--compress is for .apr files");
  if (args.compress == "lz4") return AprCompression::kLz4;
  return args.compress == "zstd" ? AprCompression::kZstd : AprCompression::kZstdMax;
}

// The tokenizer that --tokenizer names, else the source's.
CarriedTokenizer TokenizerFor(const Model& model, const WriteModelArgs& args, Container target) {
  if (args.tokenizer.empty()) return CarryTokenizer(model.file(), target, model.config().vocab_size);
  const std::filesystem::path path(args.tokenizer);
  if (path.filename() != "tokenizer.json") throw Error(ErrorCode::kUsage, "--tokenizer takes a file tokenizer.json", {.file = args.tokenizer});
  const std::string text(AsText(MappedFile::Open(path.string())->bytes()));
  const ModelFile folder({.container = Container::kSafetensors, .path = path.parent_path().empty() ? "." : path.parent_path().string(), .format_version = "",
                          .files = {}, .tensors = {}, .metadata = {}, .config = nullptr, .warnings = {}, .storage = {}});
  if (target != Container::kSafetensors) return CarryTokenizer(folder, target, model.config().vocab_size);
  if (model.file().Companion("tokenizer.json")) throw Error(ErrorCode::kUsage, "--tokenizer: the source folder has a tokenizer, whose files are copied", {.file = args.tokenizer});
  CarriedTokenizer out;
  out.files.emplace_back("tokenizer.json", text);
  if (const auto beside = folder.Companion("tokenizer_config.json")) {
    out.files.emplace_back("tokenizer_config.json", std::string(AsText(MappedFile::Open(*beside)->bytes())));
  }
  return out;
}

}  // namespace

void AddWriteFlags(Flags& app, WriteModelArgs& args) {
  app.AddOption("--format", args.format, "what to write; default: what the name of the output says")
      ->Verify(Check::OneOf({"gguf", "safetensors", "apr"}));
  auto* dtype = app.AddOption("--dtype", args.dtype, "element type of matrices; as-stored keeps what the target can hold")
                    ->Verify(Check::OneOf({"f32", "f16", "bf16", "as-stored"}));
  app.AddOption("--quantize", args.mix, "type or mix by name: Q4_K_M, Q8_0 ...")->TypeName("TYPE_OR_MIX")->Excludes(dtype);
  app.AddOption("-o,--out", args.out, "file to write (gguf, apr) or folder (safetensors)")->Required();
  app.AddOption("--max-shard-size", args.max_shard_mb, "safetensors: megabytes per file at most")->TypeName("MB")->Verify(Check::Positive());
  app.AddOption("--threads", args.threads, "threads that encode; default: every processor")->Verify(Check::Positive());
  app.AddFlag("--force", args.force, "replace existing files");
}

Container TargetOf(const WriteModelArgs& args) {
  if (args.format == "gguf" || (args.format.empty() && EndsWith(args.out, ".gguf"))) return Container::kGguf;
  if (args.format == "apr" || (args.format.empty() && EndsWith(args.out, ".apr"))) return Container::kApr;
  for (const char* other : {".onnx", ".bin", ".pt", ".pth", ".mlx", ".xml"}) {
    if (args.format.empty() && EndsWith(args.out, other)) {
      throw Error(ErrorCode::kUsage, fmt::format("'{}' names no format that is written: give --format gguf, safetensors or apr", other));
    }
  }
  return Container::kSafetensors;
}

void WarnOf(const TypePlan& plan, Console& console) {
  for (const std::string& warning : plan.warnings) console.Warn(warning);
  for (const std::string& note : plan.notes) console.Note(note);
}

ExportReport WriteModel(const std::shared_ptr<const Model>& model, const WriteModelArgs& args, Console& console, TensorSource tensors) {
  const Container target = TargetOf(args);
  for (const std::string& name : model->unread_tensors()) console.Warn("tensor " + name + " is not used by the model and was not written");
  CarriedTokenizer tokenizer = TokenizerFor(*model, args, target);
  for (const std::string& warning : tokenizer.warnings) console.Warn(warning);
  ExportOptions options{.out = args.out,
                        .dtype = ParseDtype(args.dtype),
                        .tensors = std::move(tensors),
                        .max_shard_bytes = args.max_shard_mb * 1'000'000,
                        .compression = CompressionOf(args, target),
                        .overwrite = args.force ? Overwrite::kAllow : Overwrite::kRefuse,
                        .companions = std::move(tokenizer.files),
                        .metadata = tokenizer.metadata.list()};
  options.encode.pool = std::make_shared<ThreadPool>(args.threads > 0 ? args.threads : ThreadPool::HardwareThreads());
  std::vector<std::string> said;
  if (!args.mix.empty()) {
    TypePlan plan = PlanTypes(model, target, {.mix = args.mix, .tensor_types = args.tensor_types, .imatrix = args.imatrix});
    WarnOf(plan, console);
    said = plan.warnings;
    options.choose = std::move(plan.choose);
    options.encode.importance = std::move(plan.importance);
    options.mix = plan.mix;
  }
  ExportReport report = target == Container::kGguf  ? ExportGguf(model, options)
                        : target == Container::kApr ? ExportApr(model, options)
                                                    : ExportSafetensors(model, options);
  for (const std::string& warning : report.warnings) console.Warn(warning);
  report.warnings.insert(report.warnings.end(), said.begin(), said.end());
  for (std::string& warning : tokenizer.warnings) report.warnings.push_back(std::move(warning));
  return report;
}

void PrintReport(const std::string& source, const WriteModelArgs& args, const ExportReport& report, const std::vector<std::string>& unused,
                 Console& console) {
  if (console.json()) {
    console.Document({{"model", source}, {"format", ContainerName(TargetOf(args))}, {"out", args.out}, {"tensors", report.tensors},
                      {"files", report.files}, {"warnings", report.warnings}, {"unused_tensors", unused}});
  }
  console.Line(fmt::format("{} tensors in {} file{}:", report.tensors, report.files.size(), report.files.size() == 1 ? "" : "s"));
  for (const std::string& file : report.files) console.Line("  " + file);
}

}  // namespace apr
