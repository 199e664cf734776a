// apr inspect: what a model file says about itself, without reading tensor data.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "format/apr_header.h"
#include "format/apr_reader.h"
#include "model/inventory.h"
#include "model/quality.h"
#include "model/resolve.h"

namespace apr {
namespace {

struct InspectArgs {
  std::string file;
  bool verify = false;
  bool vocab = false, filters = false, weights = false, quality = false;
};

struct Inspection {
  std::shared_ptr<const ModelFile> file;
  std::optional<ResolvedConfig> resolved;
  std::string config_problem;  // why there is none
  uint64_t parameters = 0;
};

Inspection Inspect(const std::string& path) {
  Inspection out;
  out.file = ModelFile::Open(path);
  try {
    out.resolved = ResolveConfig(*out.file);
  } catch (const Error& error) {
    out.config_problem = error.what();
  }
  for (const TensorInfo& info : out.file->tensors()) {
    out.parameters += static_cast<uint64_t>(info.shape.num_elements());
  }
  return out;
}

Json TypesOf(const ModelFile& file) {
  std::map<std::string, std::pair<uint64_t, uint64_t>> types;
  for (const TensorInfo& info : file.tensors()) {
    auto& [count, bytes] = types[NameOf(info.dtype)];
    ++count;
    bytes += info.bytes;
  }
  Json out = Json::object();
  for (const auto& [name, sums] : types) out[name] = {{"tensors", sums.first}, {"bytes", sums.second}};
  return out;
}

// What only .apr has: flags, the metadata every file must name, checksums.
void AddAprFields(const Inspection& in, bool verify, Json& out) {
  const ModelFile& file = *in.file;
  const AprHeader header = ParseAprHeader(file.files()[0]->bytes(), file.path());
  const auto has = [&](AprFlag flag) { return (header.flags & flag) != 0; };
  out["version"] = fmt::format("{}.{}", header.version_major, header.version_minor);
  out["checksum_valid"] = true;  // the header's; a wrong one does not open
  out["footer_checksum_valid"] = verify ? Json(true) : Json(nullptr);
  out["flags"] = {{"lz4_compressed", has(kAprLz4)}, {"zstd_compressed", has(kAprZstd)},
                  {"encrypted", has(kAprEncrypted)}, {"signed", has(kAprSigned)},
                  {"sharded", has(kAprSharded)},     {"quantized", has(kAprQuantized)},
                  {"has_vocab", has(kAprHasVocab)}};
  for (const char* key : {"license", "data_source", "data_license", "hf_architecture", "hf_model_type"}) {
    if (!out["metadata"].contains(key)) out["metadata"][key] = nullptr;
  }
}

Json ToJson(const Inspection& in, bool verify) {
  const ModelFile& file = *in.file;
  Json out = {{"file", file.path()},
              {"valid", true},
              {"format", ContainerName(file.container())},
              {"format_version", file.format_version()},
              {"file_size", file.total_bytes()},
              {"size_bytes", file.total_bytes()},
              {"files", file.files().size()},
              {"tensor_count", file.tensors().size()},
              {"total_params", in.parameters},
              {"quantization", DominantType(file)},
              {"types", TypesOf(file)}};
  const ModelConfig* config = in.resolved ? &in.resolved->config : nullptr;
  const auto field = [&](auto member) { return config == nullptr ? Json(nullptr) : Json(config->*member); };
  out["architecture"] = field(&ModelConfig::architecture);
  out["num_layers"] = field(&ModelConfig::num_layers);
  out["num_heads"] = field(&ModelConfig::num_heads);
  out["num_kv_heads"] = field(&ModelConfig::num_kv_heads);
  out["hidden_size"] = field(&ModelConfig::hidden_size);
  out["vocab_size"] = field(&ModelConfig::vocab_size);
  out["context_length"] = field(&ModelConfig::max_positions);
  out["config"] = config == nullptr ? Json(nullptr) : config->ToJson();
  out["config_error"] = in.config_problem.empty() ? Json(nullptr) : Json(in.config_problem);
  out["unread_keys"] = config == nullptr ? Json(nullptr) : Json(config->unread_keys);
  out["metadata"] = Json::object();
  for (const auto& [key, value] : file.metadata()) out["metadata"][key] = MetaToJson(value);
  if (file.container() == Container::kApr) AddAprFields(in, verify, out);
  out["warnings"] = Json::array();
  for (const FileWarning& w : file.warnings()) {
    out["warnings"].push_back({{"file", w.file}, {"what", w.what}, {"key", w.key.empty() ? Json(nullptr) : Json(w.key)}});
  }
  return out;
}

constexpr uint64_t kShownWords = 32;

// The vocabulary inside the file: size, kind, special ids, its first words. Null where there is none.
Json VocabularyOf(const ModelFile& file) {
  const auto first = [&](std::initializer_list<const char*> keys) -> const MetaValue* {
    for (const char* key : keys) {
      if (const MetaValue* value = file.Meta(key)) return value;
    }
    return nullptr;
  };
  const MetaValue* words = first({"tokenizer.ggml.tokens", "tokenizer.vocabulary"});
  if (words == nullptr) return nullptr;
  Json out = {{"size", words->size()}, {"first", Json::array()}};
  const std::vector<std::string_view> all = words->AsStrings();
  for (size_t i = 0; i < std::min<size_t>(all.size(), kShownWords); ++i) out["first"].push_back(all[i]);
  const auto add = [&](const char* name, std::initializer_list<const char*> keys) {
    const MetaValue* value = first(keys);
    out[name] = value == nullptr ? Json(nullptr) : MetaToJson(*value);
  };
  add("model", {"tokenizer.ggml.model", "tokenizer.model_type", "tokenizer.model"});
  add("pre_tokenizer", {"tokenizer.ggml.pre", "tokenizer.pre_type"});
  add("bos_token_id", {"tokenizer.ggml.bos_token_id", "tokenizer.bos_token_id"});
  add("eos_token_id", {"tokenizer.ggml.eos_token_id", "tokenizer.eos_token_id"});
  const MetaValue* merges = first({"tokenizer.ggml.merges", "tokenizer.merges"});
  out["merges"] = merges == nullptr ? 0 : merges->size();
  return out;
}

// Audio filters: what a speech model's file carries beside its weights.
Json FiltersOf(const ModelFile& file) {
  Json found = Json::array();
  for (const TensorInfo& info : file.tensors()) {
    if (info.name.find("mel_filter") == info.name.npos && info.name.find("filterbank") == info.name.npos) continue;
    found.push_back({{"name", info.name}, {"shape", std::vector<int64_t>(info.shape.dims().begin(), info.shape.dims().end())}});
  }
  bool flag = false;
  if (file.container() == Container::kApr) flag = (ParseAprHeader(file.files()[0]->bytes(), file.path()).flags & kAprFilterbank) != 0;
  return {{"has_filterbank", flag || !found.empty()}, {"tensors", std::move(found)}};
}

// Elements and bytes by what they are for.
Json WeightsOf(const ModelFile& file) {
  Json out = Json::object();
  for (const TensorInfo& info : file.tensors()) {
    Json& sums = out[TensorRoleName(RoleOf(info, nullptr))];
    if (sums.is_null()) sums = {{"tensors", 0}, {"elements", 0}, {"bytes", 0}};
    sums["tensors"] = sums["tensors"].get<uint64_t>() + 1;
    sums["elements"] = sums["elements"].get<uint64_t>() + static_cast<uint64_t>(info.shape.num_elements());
    sums["bytes"] = sums["bytes"].get<uint64_t>() + info.bytes;
  }
  return out;
}

bool ChecksumsHold(const ModelFile& file) {
  try {
    ValidateApr(file);
    return true;
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidFormat) throw;
    return false;
  }
}

// What was asked for beyond the usual, under the flag's name.
Json Extras(const ModelFile& file, const InspectArgs& args) {
  Json out = Json::object();
  if (args.vocab) out["vocab"] = VocabularyOf(file);
  if (args.filters) out["filters"] = FiltersOf(file);
  if (args.weights) out["weights"] = WeightsOf(file);
  if (args.quality) out["quality"] = ScoreQuality(file, ChecksumsHold(file)).ToJson();
  return out;
}

void PrintConfig(const ModelConfig& config, Console& console) {
  console.Line("\n" + console.Styled(Style::kBold, "configuration") + " (value, where it comes from)");
  TextTable table("<<<");
  for (const ConfigSource& s : config.sources) {
    const std::string value = s.value.size() > 40 ? s.value.substr(0, 37) + "..." : s.value;
    table.Row({"  " + s.field, value, s.origin});
  }
  console.Text(table.ToString());
  for (const std::string& key : config.unread_keys) console.Line("  nothing reads: " + key);
}

void Print(const Inspection& in, Console& console) {
  const ModelFile& file = *in.file;
  TextTable head("<<");
  head.Row({"file", file.path()});
  head.Row({"format", file.format_version() +
                          (file.files().size() > 1 ? fmt::format(", {} files", file.files().size()) : "")});
  head.Row({"size", fmt::format("{} ({} bytes)", HumanBytes(file.total_bytes()), file.total_bytes())});
  head.Row({"tensors", fmt::format("{}, {} elements", file.tensors().size(), in.parameters)});
  std::string types;
  const Json by_type = TypesOf(file);
  for (const auto& [name, sums] : by_type.items()) {
    types += fmt::format("{}{} x {}", types.empty() ? "" : ", ", sums["tensors"].get<uint64_t>(), name);
  }
  head.Row({"types", types});
  if (in.resolved) {
    const ModelConfig& c = in.resolved->config;
    head.Row({"architecture", c.architecture});
    head.Row({"layers", fmt::format("{}, hidden {}, {} heads ({} for keys), vocabulary {}", c.num_layers, c.hidden_size,
                                    c.num_heads, c.num_kv_heads, c.vocab_size)});
  } else {
    head.Row({"model", "none that can be built: " + in.config_problem});
  }
  console.Text(head.ToString());
  if (in.resolved) PrintConfig(in.resolved->config, console);
  if (!file.metadata().empty()) console.Line("\n" + console.Styled(Style::kBold, "metadata"));
  TextTable table("<<");
  for (const auto& [key, value] : file.metadata()) {
    table.Row({"  " + OneLineText(key, 80), OneLineText(value.ToString(), 96)});
  }
  console.Text(table.ToString());
}

int Run(const InspectArgs& args, Console& console) {
  const Inspection in = Inspect(args.file);
  const bool apr_file = in.file->container() == Container::kApr;
  if (args.verify && !apr_file) {
    throw Error(ErrorCode::kUsage, fmt::format("--verify: {} carries no checksum", in.file->format_version()));
  }
  if (args.quality && !apr_file) {
    throw Error(ErrorCode::kUsage, fmt::format("--quality is for .apr files; this is {}", in.file->format_version()));
  }
  if (args.verify) ValidateApr(*in.file);
  const Json extras = Extras(*in.file, args);
  for (const FileWarning& w : in.file->warnings()) {
    console.Warn(fmt::format("{}: {}{}", w.file, w.what, w.key.empty() ? "" : fmt::format(" ('{}')", w.key)));
  }
  if (console.json()) {
    Json document = ToJson(in, args.verify);
    document.update(extras);
    console.Document(document);
    return 0;
  }
  Print(in, console);
  for (const auto& [name, value] : extras.items()) {
    console.Line("\n" + console.Styled(Style::kBold, name));
    console.Line(DumpJson(value));
  }
  return 0;
}

CommandRunner DefineInspect(Flags& app) {
  auto args = std::make_shared<InspectArgs>();
  app.AddOption("file", args->file, "file or folder")->Required()->TypeName("FILE");
  app.AddFlag("--verify", args->verify, ".apr: read the whole file and check its footer's checksum");
  app.AddFlag("--vocab", args->vocab, "the vocabulary inside the file: size, kind, special ids, first words");
  app.AddFlag("--filters", args->filters, "audio filters inside the file");
  app.AddFlag("--weights", args->weights, "tensors, elements and bytes by what they are for");
  app.AddFlag("--quality", args->quality, ".apr: how much of what a published model should carry is there; reads the whole file");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kInspectCommand = {
    .name = "inspect",
    .group = "Looking inside",
    .summary = "Format, size, metadata, and the configuration with where each value comes from",
    .example = "  apr inspect model.gguf\n  apr inspect model-folder --json",
    .define = DefineInspect,
};

}  // namespace apr
