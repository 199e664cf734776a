// apr explain: error codes, tensors and architectures in words.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "cli/nearest.h"
#include "model/explain.h"
#include "model/resolve.h"

namespace apr {
namespace {

constexpr char kEveryFamily[] = "all";

struct ExplainArgs {
  std::string topic;  // a code or a file
  std::string file;
  std::string tensor;
  std::optional<std::string> kernel;
};

Json ToJson(const Explanation& e) {
  return {{"code", e.code}, {"title", e.title}, {"meaning", e.meaning}, {"remedy", e.remedy}, {"exit_code", e.exit_code}};
}

int ListCodes(Console& console) {
  Json list = Json::array();
  TextTable table("<<");
  for (const Explanation& e : AllExplanations()) {
    list.push_back(ToJson(e));
    table.Row({std::string(e.code), std::string(e.title)});
  }
  if (console.json()) console.Document({{"codes", std::move(list)}});
  console.Text(table.ToString());
  return 0;
}

int Code(const std::string& code, Console& console) {
  const Explanation* found = FindExplanation(code);
  if (found == nullptr) {
    std::vector<std::string> known;
    for (const Explanation& e : AllExplanations()) known.emplace_back(e.code);
    const auto nearest = NearestName(code, known);
    throw Error(ErrorCode::kNotFound, fmt::format("neither a file nor a code that is known: '{}'{}", code, nearest ? "; did you mean '" + *nearest + "'?" : ""));
  }
  if (console.json()) console.Document(ToJson(*found));
  console.Line(fmt::format("{}: {} (exit code {})", found->code, found->title, found->exit_code));
  console.Line(std::string(found->meaning));
  console.Line(std::string(found->remedy));
  return 0;
}

const Architecture& FamilyNamed(const std::string& name) {
  const Architecture* found = FindByModelType(name);
  if (found == nullptr) found = FindByGgufName(name, false);
  if (found == nullptr) found = FindByGgufName(name, true);
  if (found != nullptr) return *found;
  std::vector<std::string> known;
  for (const Architecture& a : AllArchitectures()) known.emplace_back(a.name);
  const auto nearest = NearestName(name, known);
  throw Error(ErrorCode::kValidationFailed, fmt::format("unknown family '{}'{}; apr architectures lists them", name, nearest ? "; did you mean '" + *nearest + "'?" : ""));
}

int Kernel(const Architecture& arch, Console& console) {
  Json traits = Json::object();
  TextTable table("<<");
  for (const auto& [name, text] : KernelClass(arch)) {
    traits[name] = text;
    table.Row({"  " + name, text});
  }
  Json names = Json::array();
  for (const TensorRule& rule : arch.hf) names.push_back(rule.name);
  if (console.json()) console.Document({{"family", arch.name}, {"gguf", arch.gguf}, {"kernel_class", std::move(traits)}, {"tensor_names", std::move(names)}});
  console.Line(fmt::format("{} (GGUF: {})", arch.name, arch.gguf.empty() ? "none" : arch.gguf));
  console.Text(table.ToString());
  console.Line("  tensors:");
  for (const TensorRule& rule : arch.hf) console.Line(fmt::format("    {}", rule.name));
  return 0;
}

int AllKernels(Console& console) {
  Json list = Json::object();
  for (const Architecture& arch : AllArchitectures()) {
    Json traits = Json::object();
    console.Line(std::string(arch.name));
    for (const auto& [name, text] : KernelClass(arch)) {
      traits[name] = text;
      console.Line(fmt::format("  {:<13} {}", name, text));
    }
    list[std::string(arch.name)] = std::move(traits);
  }
  if (console.json()) console.Document({{"families", std::move(list)}});
  return 0;
}

Json ToJson(const TensorMeaning& m) {
  Json slots = Json::array();
  for (const Slot slot : m.slots) slots.push_back({{"slot", SlotName(slot)}, {"meaning", SlotMeaning(slot)}});
  return {{"role", SlotMeaning(m.slot)},
          {"slots", std::move(slots)},
          {"layer", m.layer < 0 ? Json(nullptr) : Json(m.layer)},
          {"expert", m.expert < 0 ? Json(nullptr) : Json(m.expert)},
          {"naming", m.naming == Container::kGguf ? "gguf" : "huggingface"},
          {"other_name", m.other_name.empty() ? Json(nullptr) : Json(m.other_name)},
          {"architectures", m.architectures}};
}

// What is known about the tensor in this file.
Json InFile(const std::string& path, const ModelFile& file, const std::string& tensor) {
  const TensorInfo* info = file.Find(tensor);
  if (info == nullptr) throw Error(ErrorCode::kValidationFailed, fmt::format("no tensor '{}'", tensor), {.file = path});
  const auto dims = info->shape.dims();
  return {{"file", path}, {"dtype", NameOf(info->dtype)}, {"shape", std::vector<int64_t>(dims.begin(), dims.end())}, {"size_bytes", info->bytes}};
}

int ExplainTensor(const ExplainArgs& args, const std::string& path, Console& console) {
  Json in_file = nullptr;
  const Architecture* only = nullptr;
  if (!path.empty()) {
    const auto file = ModelFile::Open(path);
    in_file = InFile(path, *file, args.tensor);
    try {
      only = ResolveConfig(*file).architecture;
    } catch (const Error& e) {
      console.Warn(std::string(e.what()) + "; every architecture's names are looked at");
    }
  }
  const std::vector<TensorMeaning> meanings = ExplainTensor(args.tensor, only);
  if (meanings.empty()) {
    throw Error(ErrorCode::kValidationFailed, fmt::format("no known architecture has a tensor of the name '{}'", args.tensor), {.tensor = args.tensor});
  }
  Json list = Json::array();
  for (const TensorMeaning& m : meanings) {
    list.push_back(ToJson(m));
    for (const Slot slot : m.slots) console.Line(fmt::format("{}: {}", args.tensor, SlotMeaning(slot)));
    std::string who;
    for (const std::string& name : m.architectures) who += (who.empty() ? "" : ", ") + name;
    console.Line(fmt::format("  {}{}{} naming of {}", m.layer >= 0 ? fmt::format("layer {}, ", m.layer) : "", m.expert >= 0 ? fmt::format("expert {}, ", m.expert) : "",
                             m.naming == Container::kGguf ? "GGUF" : "Hugging Face", who));
    if (!m.other_name.empty()) console.Line("  elsewhere: " + m.other_name);
  }
  if (!in_file.is_null()) console.Line(fmt::format("  here: {} {}", in_file["dtype"].get<std::string>(), DumpJson(in_file["shape"], -1)));
  if (console.json()) console.Document({{"tensor", args.tensor}, {"meanings", std::move(list)}, {"in_file", std::move(in_file)}});
  return 0;
}

int File(const std::string& path, Console& console) {
  const auto file = ModelFile::Open(path);
  uint64_t parameters = 0;
  for (const TensorInfo& info : file->tensors()) parameters += static_cast<uint64_t>(info.shape.num_elements());
  std::string about;
  Json kernel = nullptr;
  try {
    const ResolvedConfig resolved = ResolveConfig(*file);
    const ModelConfig& c = resolved.config;
    about = fmt::format("a {} model of {} layers, hidden size {}, {} heads ({} for keys and values), vocabulary {}", c.architecture, c.num_layers,
                        c.hidden_size, c.num_heads, c.num_kv_heads, c.vocab_size);
    kernel = Json::object();
    for (const auto& [name, text] : KernelClass(*resolved.architecture)) kernel[name] = text;
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kModelLoad && e.code() != ErrorCode::kInvalidFormat) throw;
    about = "no model that this program computes: " + e.message();
  }
  if (console.json()) {
    console.Document({{"file", path}, {"format", ContainerName(file->container())}, {"tensors", file->tensors().size()}, {"parameters", parameters},
                      {"about", about}, {"kernel_class", std::move(kernel)}});
    return 0;
  }
  console.Line(fmt::format("{}: {}, {}, {} tensors, {} parameters", path, file->format_version(), HumanBytes(file->total_bytes()), file->tensors().size(), parameters));
  console.Line("  " + about);
  if (!kernel.is_null()) {
    for (const auto& [name, text] : kernel.items()) console.Line(fmt::format("  {:<13} {}", name, text.get<std::string>()));
  }
  return 0;
}

int Run(const ExplainArgs& args, Console& console) {
  std::error_code ignored;
  const bool topic_is_file = !args.topic.empty() && std::filesystem::exists(args.topic, ignored);
  const std::string path = !args.file.empty() ? args.file : topic_is_file ? args.topic : "";
  if (!args.topic.empty() && !topic_is_file && (!args.tensor.empty() || args.kernel || !args.file.empty())) {
    throw Error(ErrorCode::kNotFound, "no such file", {.file = args.topic});
  }
  if (!args.tensor.empty()) return ExplainTensor(args, path, console);
  if (args.kernel) {
    if (*args.kernel != kEveryFamily) return Kernel(FamilyNamed(*args.kernel), console);
    return path.empty() ? AllKernels(console) : Kernel(*ResolveConfig(*ModelFile::Open(path)).architecture, console);
  }
  if (!path.empty()) return File(path, console);
  return args.topic.empty() ? ListCodes(console) : Code(args.topic, console);
}

CommandRunner DefineExplain(Flags& app) {
  auto args = std::make_shared<ExplainArgs>();
  app.AddOption("topic", args->topic, "an error code (E001, invalid_format, 4, F-DATA-QUALITY-002) or a file; none: all codes")->TypeName("CODE|FILE");
  app.AddOption("-f,--file", args->file, "the file that --tensor or --kernel is about")->TypeName("FILE");
  auto* tensor = app.AddOption("--tensor", args->tensor, "what a tensor of this name is for")->TypeName("NAME");
  app.AddOption("--kernel", args->kernel, "what a family computes; without a name that of the file, or all")
      ->ValueOptional(kEveryFamily)
      ->TypeName("FAMILY")
      ->Excludes(tensor);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kExplainCommand = {
    .name = "explain",
    .group = "Looking inside",
    .summary = "Error codes, tensors and architectures in words",
    .example = "  apr explain E002\n  apr explain --tensor blk.0.attn_q.weight\n  apr explain --kernel gemma2",
    .define = DefineExplain,
};

}  // namespace apr
