// apr debug: a first look at a file that something is wrong with.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "cli/hex_text.h"
#include "model/inventory.h"
#include "model/resolve.h"

namespace apr {
namespace {

constexpr uint64_t kMaxHexBytes = 4096;
constexpr uint64_t kMaxStringScan = 16 << 20;  // a file of zeros must not be read to its end
constexpr size_t kMinString = 4;

struct DebugArgs {
  std::string file;
  bool drama = false;
  bool hex = false;
  bool strings = false;
  uint64_t limit = 256;
};

// What was looked at, and what is wrong: never more than was checked.
struct Health {
  std::string state = "ok";           // "ok", "no model", "damaged"
  std::vector<std::string> problems;
  std::string architecture;
  uint64_t parameters = 0;
};

Health Examine(const ModelFile& file) {
  Health out;
  for (const TensorInfo& info : file.tensors()) out.parameters += static_cast<uint64_t>(info.shape.num_elements());
  for (const FileWarning& w : file.warnings()) out.problems.push_back(w.key.empty() ? w.what : w.key + ": " + w.what);
  if (file.tensors().empty()) out.problems.emplace_back("the file holds no tensor"), out.state = "damaged";
  try {
    const ResolvedConfig resolved = ResolveConfig(file);
    out.architecture = resolved.config.architecture;
    const Inventory inventory = TakeInventory(file, *resolved.architecture, resolved.config);
    for (const std::string& name : inventory.missing) out.problems.push_back("tensor " + name + " is missing");
    for (const InventoryEntry& entry : inventory.entries) {
      if (!entry.fits) out.problems.push_back(fmt::format("tensor {} is {} instead of {}", entry.tensor->name, entry.tensor->shape.ToString(), entry.expected.ToString()));
    }
    if (!out.problems.empty()) out.state = "damaged";
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kModelLoad && e.code() != ErrorCode::kInvalidFormat) throw;
    if (out.state == "ok") out.state = "no model";
    out.problems.emplace_back(e.what());
  }
  return out;
}

struct FoundString {
  uint64_t offset;
  std::string text;
};

std::vector<FoundString> FindStrings(Bytes bytes, uint64_t limit) {
  std::vector<FoundString> out;
  const std::string_view text = AsText(bytes.subspan(0, std::min<uint64_t>(bytes.size(), kMaxStringScan)));
  size_t start = 0;
  const auto flush = [&](size_t end) {
    if (end - start >= kMinString && out.size() < limit) out.push_back({start, std::string(text.substr(start, std::min<size_t>(end - start, 200)))});
    start = end + 1;
  };
  for (size_t i = 0; i < text.size() && out.size() < limit; ++i) {
    if (text[i] < 0x20 || text[i] > 0x7E) flush(i);
  }
  flush(std::max(start, text.size()));
  return out;
}

std::string Story(const Health& health, const ModelFile& file) {
  const std::string cast = fmt::format("{} tensors, {} numbers", file.tensors().size(), health.parameters);
  if (health.state == "ok") {
    return fmt::format("Act I: a file of {} walks in. Act II: {} are counted, and not one is missing. Act III: as a {} it takes a bow.",
                       HumanBytes(file.total_bytes()), cast, health.architecture);
  }
  return fmt::format("Act I: a file of {} walks in. Act II: {} are counted, but: {}. Act III: the hero falls ({}).",
                     HumanBytes(file.total_bytes()), cast, health.problems.empty() ? "nobody knows it" : OneLineText(health.problems[0], 200), health.state);
}

Json ToJson(const DebugArgs& args, const ModelFile& file, const Health& health) {
  const Bytes bytes = file.files()[0]->bytes();
  Json out = {{"model", args.file},
              {"format", ContainerName(file.container())},
              {"format_version", file.format_version()},
              {"architecture", health.architecture.empty() ? Json(nullptr) : Json(health.architecture)},
              {"tensors", file.tensors().size()},
              {"parameters", health.parameters},
              {"size_bytes", file.total_bytes()},
              {"health", health.state},
              {"problems", health.problems},
              {"checked", "structure, configuration, names and shapes; apr validate reads the data"}};
  if (args.hex) out["hex"] = HexRowsJson(bytes.subspan(0, std::min({bytes.size(), static_cast<size_t>(args.limit), static_cast<size_t>(kMaxHexBytes)})), 0, 16);
  if (args.strings) {
    Json list = Json::array();
    for (const FoundString& found : FindStrings(bytes, args.limit)) list.push_back({{"offset", found.offset}, {"text", found.text}});
    out["strings"] = std::move(list);
    out["strings_scanned_bytes"] = std::min<uint64_t>(bytes.size(), kMaxStringScan);
  }
  if (args.drama) out["drama"] = Story(health, file);
  return out;
}

void Print(const DebugArgs& args, const ModelFile& file, const Health& health, Console& console) {
  TextTable table("<<");
  table.Row({"model", args.file});
  table.Row({"format", file.format_version()});
  table.Row({"architecture", health.architecture.empty() ? "unknown" : health.architecture});
  table.Row({"tensors", std::to_string(file.tensors().size())});
  table.Row({"parameters", std::to_string(health.parameters)});
  table.Row({"size", fmt::format("{} ({} bytes)", HumanBytes(file.total_bytes()), file.total_bytes())});
  table.Row({"health", console.Styled(health.state == "ok" ? Style::kGreen : Style::kYellow, health.state) +
                           " (structure, configuration, names, shapes; apr validate reads the data)"});
  console.Text(table.ToString());
  for (const std::string& problem : health.problems) console.Line("  " + OneLineText(problem, 300));
  const Bytes bytes = file.files()[0]->bytes();
  if (args.drama) console.Line("\n" + Story(health, file));
  if (args.hex) {
    console.Line("");
    console.Text(HexRows(bytes.subspan(0, std::min({bytes.size(), static_cast<size_t>(args.limit), static_cast<size_t>(kMaxHexBytes)})), 0, 16));
  }
  if (!args.strings) return;
  console.Line("");
  for (const FoundString& found : FindStrings(bytes, args.limit)) console.Line(fmt::format("{:08x}  {}", found.offset, found.text));
}

int Run(const DebugArgs& args, Console& console) {
  const auto file = ModelFile::Open(args.file);
  const Health health = Examine(*file);
  if (console.json()) console.Document(ToJson(args, *file, health));
  else Print(args, *file, health, console);
  return 0;
}

CommandRunner DefineDebug(Flags& app) {
  auto args = std::make_shared<DebugArgs>();
  app.AddOption("file", args->file, "file or folder")->Required()->TypeName("FILE");
  app.AddFlag("--drama", args->drama, "the findings as a play in three acts");
  app.AddFlag("--hex", args->hex, "the first bytes, at most 4096, 16 a row");
  app.AddFlag("--strings", args->strings, "texts of at least 4 printable characters in the first 16 MiB");
  app.AddOption("--limit", args->limit, "bytes of --hex, texts of --strings")->Verify(Check::Range(int64_t{1}, int64_t{1} << 32))->TypeName("N");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kDebugCommand = {
    .name = "debug",
    .group = "Looking inside",
    .summary = "A first look at a file: what it is, whether it hangs together, its bytes and texts",
    .example = "  apr debug model.gguf\n  apr debug model.gguf --hex --strings --limit 128",
    .define = DefineDebug,
};

}  // namespace apr
