// apr hex: the bytes of a file with what they mean.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "cli/hex_tensor.h"
#include "cli/hex_text.h"
#include "format/header_map.h"
#include "format/stage_file.h"

namespace apr {
namespace {

struct HexArgs {
  std::string file;
  std::string tensor;
  uint64_t limit = 64;
  bool list = false, header = false, raw = false;
  std::string offset;
  uint64_t width = 16;
  TensorViews views;
  std::string slice;
};

// Decimal, or hexadecimal after 0x.
uint64_t ParseOffset(const std::string& text) {
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  const char* first = text.data() + (hex ? 2 : 0);
  const char* last = text.data() + text.size();
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(first, last, value, hex ? 16 : 10);
  if (error != std::errc() || end != last || first == last) {
    throw Error(ErrorCode::kUsage, fmt::format("--offset: '{}' is no number", text));
  }
  return value;
}

// "a:b", b exclusive; either may be left out.
std::pair<int64_t, std::optional<int64_t>> ParseSlice(const std::string& text) {
  const size_t colon = text.find(':');
  const auto number = [&](const std::string& part) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || value < 0) {
      throw Error(ErrorCode::kUsage, fmt::format("--slice: '{}' is not A:B", text));
    }
    return value;
  };
  if (colon == text.npos) throw Error(ErrorCode::kUsage, fmt::format("--slice: '{}' is not A:B", text));
  const std::string a = text.substr(0, colon), b = text.substr(colon + 1);
  return {a.empty() ? 0 : number(a), b.empty() ? std::nullopt : std::optional(number(b))};
}

int Raw(const HexArgs& args, Console& console) {
  const auto file = MappedFile::Open(args.file);
  const uint64_t offset = args.offset.empty() ? 0 : ParseOffset(args.offset);
  if (offset > file->size()) {
    throw Error(ErrorCode::kValidationFailed, fmt::format("the file has {} bytes", file->size()), {.file = args.file, .offset = offset});
  }
  const Bytes bytes = file->bytes().subspan(offset, std::min<uint64_t>(args.limit, file->size() - offset));
  if (console.json()) {
    console.Document({{"file", args.file}, {"size_bytes", file->size()}, {"offset", offset}, {"raw", HexRowsJson(bytes, offset, args.width)}});
  } else {
    console.Text(HexRows(bytes, offset, args.width));
  }
  return 0;
}

// The header of the first file of a folder or of shards, or of a captured stage.
int Header(const HexArgs& args, const std::string& format, const MappedFile& file, Console& console) {
  const std::vector<HeaderField> fields = MapHeader(file.bytes(), file.path(), args.limit);
  const auto bytes_of = [&](const HeaderField& f) { return file.bytes().subspan(f.offset, std::min<uint64_t>(f.size, args.width)); };
  if (console.json()) {
    Json list = Json::array();
    for (const HeaderField& f : fields) {
      list.push_back({{"offset", f.offset}, {"size", f.size}, {"name", f.name}, {"value", f.value}, {"hex", HexDigits(bytes_of(f))}});
    }
    console.Document({{"file", file.path()}, {"format", format}, {"size_bytes", file.size()}, {"header", std::move(list)}});
    return 0;
  }
  TextTable table("<><<<");
  table.Row({"offset", "size", "field", "value", "bytes"});
  for (const HeaderField& f : fields) {
    table.Row({fmt::format("{:08x}", f.offset), std::to_string(f.size), f.name, OneLineText(f.value, 72),
               HexDigits(bytes_of(f)) + (f.size > args.width ? " ..." : "")});
  }
  console.Text(table.ToString());
  return 0;
}

// The tensor of that name, or every one whose name contains it.
std::vector<const TensorInfo*> Select(const ModelFile& file, const std::string& name) {
  if (const TensorInfo* exact = file.Find(name)) return {exact};
  std::vector<const TensorInfo*> out;
  for (const TensorInfo& info : file.tensors()) {
    if (info.name.find(name) != info.name.npos) out.push_back(&info);
  }
  if (out.empty()) throw Error(ErrorCode::kValidationFailed, fmt::format("no tensor '{}'", name), {.file = file.path()});
  return out;
}

int List(const ModelFile& file, const std::vector<const TensorInfo*>& tensors, Console& console) {
  Json list = Json::array();
  TextTable table("<<<>>");
  table.Row({"name", "type", "shape", "offset", "bytes"});
  for (const TensorInfo* info : tensors) {
    list.push_back(TensorHeadJson(file, *info));
    table.Row({OneLineText(info->name, 100), NameOf(info->dtype), info->shape.ToString(), fmt::format("0x{:x}", info->offset), std::to_string(info->bytes)});
  }
  if (console.json()) {
    console.Document({{"file", file.path()}, {"format", ContainerName(file.container())}, {"tensor_count", file.tensors().size()}, {"tensors", std::move(list)}});
  } else {
    console.Text(table.ToString());
  }
  return 0;
}

int Tensors(const HexArgs& args, const ModelFile& file, Console& console) {
  TensorViews views = args.views;
  views.limit = args.limit;
  views.width = args.width;
  if (!args.slice.empty()) std::tie(views.slice_first, views.slice_end) = ParseSlice(args.slice);
  views.slice = !args.slice.empty();
  const std::vector<const TensorInfo*> tensors = Select(file, args.tensor);
  if (!console.json()) {
    for (const TensorInfo* info : tensors) console.Text(TensorText(file, *info, views));
    return 0;
  }
  Json list = Json::array();
  for (const TensorInfo* info : tensors) list.push_back(TensorJson(file, *info, views));
  console.Document({{"file", file.path()}, {"format", ContainerName(file.container())}, {"tensor_count", file.tensors().size()}, {"tensors", std::move(list)}});
  return 0;
}

int Run(const HexArgs& args, Console& console) {
  if (args.raw) return Raw(args, console);
  const TensorViews& v = args.views;
  const bool looks_at_tensors = v.stats || v.blocks || v.distribution || v.entropy || v.contract || !args.slice.empty();
  if (IsStageFile(args.file)) {
    if (looks_at_tensors || args.list || !args.tensor.empty()) {
      throw Error(ErrorCode::kUsage, "a captured stage has no tensors by name: --header or --raw", {.file = args.file});
    }
    ReadStageFile(args.file);  // one that its reader refuses is refused here too: --raw shows its bytes
    return Header(args, "aprt", *MappedFile::Open(args.file), console);
  }
  const auto file = ModelFile::Open(args.file);
  if (args.list) {
    return List(*file, Select(*file, args.tensor), console);
  }
  if (args.header || (args.tensor.empty() && !looks_at_tensors)) {
    return Header(args, ContainerName(file->container()), *file->files()[0], console);
  }
  return Tensors(args, *file, console);
}

CommandRunner DefineHex(Flags& app) {
  auto args = std::make_shared<HexArgs>();
  app.AddOption("file", args->file, "file or folder, or a captured stage")->Required()->TypeName("FILE");
  app.AddOption("--tensor", args->tensor, "this tensor, or those whose names contain this")->TypeName("NAME");
  app.AddOption("--limit", args->limit, "bytes, elements, blocks or fields to show")->Verify(Check::Range(int64_t{1}, int64_t{1} << 40))->TypeName("N");
  auto* list = app.AddFlag("--list", args->list, "tensors: where they lie");
  auto* header = app.AddFlag("--header", args->header, "the header field by field (what is shown without other flags)");
  auto* raw = app.AddFlag("--raw", args->raw, "bytes of the file from --offset on, whatever it is");
  list->Excludes(header)->Excludes(raw);
  header->Excludes(raw);
  app.AddOption("--offset", args->offset, "of --raw; 0x for hexadecimal")->TypeName("N")->Needs(raw);
  app.AddOption("--width", args->width, "bytes per row")->Verify(Check::Range(1, 256))->TypeName("N");
  std::vector<FlagOption*> views = {
      app.AddFlag("--stats", args->views.stats, "statistics of the decoded elements"),
      app.AddFlag("--blocks", args->views.blocks, "quantised blocks taken apart: scales, fields, elements"),
      app.AddFlag("--distribution", args->views.distribution, "histogram, skewness, kurtosis"),
      app.AddFlag("--entropy", args->views.entropy, "bits per byte"),
      app.AddFlag("--contract", args->views.contract, "how the stored shape becomes rows and columns of the model"),
      app.AddOption("--slice", args->slice, "elements A to B, B excluded")->TypeName("A:B")};
  for (FlagOption* view : views) view->Excludes(list)->Excludes(header)->Excludes(raw);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kHexCommand = {
    .name = "hex",
    .group = "Looking inside",
    .summary = "The bytes of a file with what they mean: header fields, quantised blocks, elements",
    .example = "  apr hex model.gguf --header\n"
               "  apr hex model.gguf --tensor blk.0.attn_q.weight --blocks --limit 2\n"
               "  apr hex model.gguf --raw --offset 0x100 --limit 256",
    .define = DefineHex,
};

}  // namespace apr
