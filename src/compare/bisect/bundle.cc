// See bundle.h.
#include "compare/bisect/bundle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/temp_folder.h"
#include "compare/bisect/html.h"
#include "compare/bisect/report_record.h"
#include "format/model_writer.h"
#include "format/tar_gz.h"
#include "generate/session.h"
#include "generate/trace.h"

namespace apr::bisect {
namespace {

namespace fs = std::filesystem;

constexpr std::array kCompanions = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                                    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"};
constexpr uint64_t kMaxCompanion = 64 << 20;
constexpr int64_t kMaxTensorBytes = 64 << 20;
constexpr int64_t kLayersOfStages = 2;  // from the first difference on

// "MODEL@reference" in its two parts.
std::string ExecutorSuffix(const Side& side, const std::string& given) { return given == side.path ? "" : given.substr(side.path.size()); }

void AddFolder(TarGzWriter& out, const std::string& name, const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  for (const fs::path& file : files) out.AddFile(name + "/" + fs::relative(file, folder).generic_string(), file.string());
}

uint64_t BytesOf(const Side& side) {
  if (side.file) return side.file->total_bytes();
  uint64_t total = 0;
  std::error_code ignored;
  if (fs::is_regular_file(side.path, ignored)) return fs::file_size(side.path, ignored);
  for (const auto& entry : fs::recursive_directory_iterator(side.path)) total += entry.is_regular_file() ? entry.file_size() : 0;
  return total;
}

void AddCompanions(TarGzWriter& out, const std::string& name, const ModelFile& file) {
  for (const char* companion : kCompanions) {
    const auto path = file.Companion(companion);
    if (path && fs::file_size(*path) <= kMaxCompanion) out.AddFile(name + "/" + companion, *path);
  }
}

// The name under which a replay opens a whole side.
std::string AddWhole(TarGzWriter& out, const std::string& name, const Side& side) {
  if (!side.file) {
    if (fs::is_directory(side.path)) {
      AddFolder(out, name, side.path);
      return name;
    }
    std::string file = name + "/" + fs::path(side.path).filename().string();
    out.AddFile(file, side.path);
    return file;
  }
  std::set<std::string> added;
  std::string opened = name;
  for (const auto& mapped : side.file->files()) {
    const std::string file = fs::path(mapped->path()).filename().string();
    if (added.insert(file).second) out.AddFile(fmt::format("{}/{}", name, file), mapped->path());
  }
  if (side.file->files().size() == 1 && !fs::is_directory(side.path)) opened += "/" + fs::path(side.path).filename().string();
  const auto index = side.file->Companion("model.safetensors.index.json");
  if (index && side.file->files().size() > 1) out.AddFile(name + "/model.safetensors.index.json", *index);
  AddCompanions(out, name, *side.file);
  return opened;
}

// What describes a side without its weights: companions, or a GGUF of metadata alone.
std::string AddDescription(TarGzWriter& out, const std::string& name, const Side& side, const TempFolder& scratch) {
  if (!side.file) return name;
  AddCompanions(out, name, *side.file);
  std::vector<TensorToWrite> none;
  const std::string path = scratch / (name + ".part");
  if (side.file->container() == Container::kGguf) {
    WriteGguf(path, none, side.file->metadata(), Overwrite::kAllow);
    out.AddFile(name + "/model.gguf", path);
    return name + "/model.gguf";
  }
  if (side.file->container() == Container::kApr) {
    WriteApr({.path = path, .tensors = {}, .metadata = side.file->metadata(), .overwrite = Overwrite::kAllow});
    out.AddFile(name + "/model.apr", path);
    return name + "/model.apr";
  }
  WriteSafetensors(path, std::move(none), {}, Overwrite::kAllow);
  out.AddFile(name + "/model.safetensors", path);
  return name;
}

// The tensors that findings name, as the side holds them, in one safetensors file of raw values where the
// type allows, else as f32.
const TensorInfo* TensorNamed(const Side& side, const std::string& hf_name) {
  if (!side.weights) return nullptr;
  if (const TensorInfo* info = side.weights->Find(hf_name)) return info;
  if (side.architecture == nullptr) return nullptr;
  for (const auto& [key, slot] : side.slots.slots) {
    if (slot.tensor != nullptr && HfName(*side.architecture, key) == hf_name) return slot.tensor;
  }
  return nullptr;
}

void AddTensors(TarGzWriter& out, const std::string& name, const Side& side, const Report& report, const TempFolder& scratch) {
  std::vector<TensorToWrite> tensors;
  std::set<std::string> seen;
  int64_t left = kMaxTensorBytes;
  for (const Finding& finding : report.findings) {
    if (finding.first.tensor.empty() || !seen.insert(finding.first.tensor).second) continue;
    const TensorInfo* info = TensorNamed(side, finding.first.tensor);
    if (info == nullptr || static_cast<int64_t>(info->bytes) > left) continue;
    left -= static_cast<int64_t>(info->bytes);
    tensors.push_back(CopyOf(side.weights, *info, finding.first.tensor));
  }
  if (tensors.empty()) return;
  // Quantised blocks have no safetensors type: their container keeps them.
  const bool gguf = side.file->container() == Container::kGguf || std::ranges::any_of(tensors, [](const TensorToWrite& t) { return IsQuantized(t.dtype); });
  const std::string path = scratch / (name + ".tensors");
  if (gguf) WriteGguf(path, tensors, {}, Overwrite::kAllow);
  else WriteSafetensors(path, std::move(tensors), {}, Overwrite::kAllow);
  out.AddFile(name + (gguf ? "/tensors.gguf" : "/tensors.safetensors"), path);
}

// Stages of the layer in which the sides first differ, of a run of this side.
void AddStages(TarGzWriter& out, const std::string& name, const Side& side, const Report& report, const TempFolder& scratch) {
  if (!side.file || report.ids.empty() || report.findings.empty()) return;
  const Place& first = report.findings.front().first;
  if (first.stage.empty()) return;
  const std::string folder = scratch / (name + "-stages");
  try {
    const auto model = Model::Load(side.file);
    std::vector<int32_t> ids;
    for (const int64_t id : report.ids) ids.push_back(static_cast<int32_t>(id));
    Session session(model, {.executor = side.executor, .compute = {.precision = Precision::kExact}, .chunk = 0});
    StageDirectoryWriter writer(folder, {.engine = "apr", .model = side.path, .architecture = model->config().architecture,
                                         .precision = PrecisionOf(*model, side.executor, Precision::kExact), .ids = report.ids}, Overwrite::kAllow);
    const int64_t layer = first.layer.value_or(std::max<int64_t>(0, model->config().num_layers - 1));
    const StageSelection around{ParseStageNames("all"), {layer, std::min(layer + kLayersOfStages, model->config().num_layers)}};
    TraceSink sink(session.executor().model().graph, [](const Stage&) { return false; }, around, &writer);
    session.Append(session.NewSequence(), ids, 1, &sink);
    writer.Finish();
  } catch (const Error&) {
    return;  // a side that does not run: the report says why
  }
  AddFolder(out, name + "-stages", folder);
}

Json OptionsJson(const Options& options) {
  Json phases = Json::array();
  for (const Phase phase : options.phases) phases.push_back(PhaseName(phase));
  return {{"ids", options.ids}, {"text", options.text}, {"has_messages", !options.messages.empty()}, {"phases", phases}, {"causes", options.causes}};
}

std::string CauseOf(const Report& report) {
  const bool named = report.verdict == Verdict::kDifferent && !report.findings.empty() && report.findings.front().cause;
  return named ? report.findings.front().cause->name : "";
}

[[noreturn]] void Damaged(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInvalidFormat, "no bundle of a bisection: " + what, {.file = path});
}

std::string TextOf(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

// A name inside the bundle, nothing else: "a", "b/model.gguf".
std::string SideName(const Json& manifest, const char* side, const std::string& path) {
  std::string name = TextOf(manifest, side);
  const bool inside = name.starts_with(side) && (name.size() == 1 || name[1] == '/') && name.find("..") == std::string::npos;
  if (!inside) Damaged(path, fmt::format("'{}' names no side of it", side));
  return name;
}

Options OptionsFrom(const Json& manifest, const std::string& path) {
  Options out;
  const Json json = manifest.value("options", Json::object());
  if (!json.is_object()) Damaged(path, "'options' is no object");
  out.text = TextOf(json, "text");
  const Json ids = json.value("ids", Json::array());
  for (const Json& id : ids) {
    if (!id.is_number_integer()) Damaged(path, "an id is no number");
    out.ids.push_back(id.get<int32_t>());
  }
  for (const Json& name : json.value("phases", Json::array())) {
    const auto phase = name.is_string() ? PhaseFromName(name.get<std::string>()) : std::nullopt;
    if (!phase) Damaged(path, "a phase has no such name");
    out.phases.push_back(*phase);
  }
  const Json causes = json.value("causes", Json(true));
  out.causes = !causes.is_boolean() || causes.get<bool>();
  return out;
}

// Of a bundle of parts: whether a tensor that the record blames still differs between the sides.
bool TensorsDiffer(const TempFolder& scratch, const std::string& tensor) {
  const auto open = [&](const char* side) -> std::shared_ptr<const ModelFile> {
    for (const char* name : {"tensors.safetensors", "tensors.gguf"}) {
      const fs::path path = scratch / (std::string(side) + "/" + name);
      if (fs::exists(path)) return ModelFile::Open(path.string());
    }
    return nullptr;
  };
  const auto a = open("a"), b = open("b");
  const TensorInfo* in_a = a ? a->Find(tensor) : nullptr;
  const TensorInfo* in_b = b ? b->Find(tensor) : nullptr;
  if (in_a == nullptr || in_b == nullptr) return in_a != in_b;
  return in_a->shape != in_b->shape || in_a->dtype != in_b->dtype || !std::ranges::equal(a->View(*in_a).bytes, b->View(*in_b).bytes);
}

}  // namespace

bool IsBundle(const std::string& path) { return LooksLikeGzip(path); }

void WriteBundle(const BundleArgs& args, const Report& report) {
  const Side a = OpenSide(args.options.a), b = OpenSide(args.options.b);
  const bool whole = BytesOf(a) + BytesOf(b) <= args.max_model_bytes;
  const TempFolder scratch("bundle");
  TarGzWriter out(args.path, args.overwrite);
  const std::string name_a = whole ? AddWhole(out, "a", a) : AddDescription(out, "a", a, scratch);
  const std::string name_b = whole ? AddWhole(out, "b", b) : AddDescription(out, "b", b, scratch);
  if (!whole) {
    AddTensors(out, "a", a, report, scratch);
    AddTensors(out, "b", b, report, scratch);
  }
  AddStages(out, "a", a, report, scratch);
  AddStages(out, "b", b, report, scratch);
  if (!args.options.messages.empty()) out.AddFile("messages.json", args.options.messages);
  const std::string file = fs::path(args.path).filename().string();
  const Json manifest = {{"schema", "apr-bundle-v1"}, {"program", args.version}, {"complete", whole}, {"a", name_a}, {"b", name_b},
                         {"executor_a", ExecutorSuffix(a, args.options.a)}, {"executor_b", ExecutorSuffix(b, args.options.b)},
                         {"options", OptionsJson(args.options)}, {"verdict", VerdictName(report.verdict)}, {"cause", CauseOf(report)},
                         {"replay", "apr bisect " + file}};
  out.Add("bundle.json", DumpJson(manifest) + "\n");
  out.Add("report.json", DumpJson(report.ToJson()) + "\n");
  out.Add("report.txt", report.ToText());
  out.Add("report.html", ToHtml(report));
  out.Add("README.txt", fmt::format("A bisection by apr {}. Replay it with: apr bisect {}\nreport.html shows what was found.\n", args.version, file));
  out.Finish();
}

Replayed ReplayBundle(const std::string& path) {
  const TempFolder scratch("bundle");
  UnpackTarGz(path, scratch / "");
  const fs::path manifest_path = scratch / "bundle.json";
  if (!fs::exists(manifest_path)) Damaged(path, "bundle.json is not in it");
  const auto manifest_bytes = MappedFile::Open(manifest_path.string());
  const Json manifest = ParseJson(AsText(manifest_bytes->bytes()), path);
  if (!manifest.is_object() || TextOf(manifest, "schema") != "apr-bundle-v1") Damaged(path, "bundle.json has another schema");
  Options options = OptionsFrom(manifest, path);
  options.a = scratch / SideName(manifest, "a", path) + TextOf(manifest, "executor_a");
  options.b = scratch / SideName(manifest, "b", path) + TextOf(manifest, "executor_b");
  if (fs::exists(scratch / "messages.json")) options.messages = scratch / "messages.json";
  const bool complete = manifest.value("complete", Json(false)) == Json(true);
  if (!complete) options.phases = {Phase::kTokens};
  Replayed out;
  out.recorded_verdict = TextOf(manifest, "verdict");
  out.recorded_cause = TextOf(manifest, "cause");
  try {
    out.report = Run(options);
  } catch (const Error&) {
    if (complete) throw;  // of parts, a side that could not be read is not even there
  }
  for (auto* side : {&out.report.a, &out.report.b}) side->path = path + (side == &out.report.a ? ": A" : ": B");
  if (!complete && out.report.verdict != Verdict::kDifferent) {
    const auto record_bytes = MappedFile::Open(scratch / "report.json");
    const Json record = ParseJson(AsText(record_bytes->bytes()), path);
    RestoreRecord(record, out.report);
    const std::string tensor = out.report.findings.empty() ? "" : out.report.findings.front().first.tensor;
    const bool confirmed = !tensor.empty() && TensorsDiffer(scratch, tensor);
    out.report.coverage.notes.push_back(confirmed ? "the models are not in the bundle: the verdict is the recorded one; the tensor it blames was compared again and differs"
                                                  : "the models are not in the bundle: the verdict is the recorded one");
  }
  out.agrees = VerdictName(out.report.verdict) == out.recorded_verdict && CauseOf(out.report) == out.recorded_cause;
  return out;
}

}  // namespace apr::bisect
