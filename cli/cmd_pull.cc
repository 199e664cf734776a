// apr pull: fetches a model into the local cache.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "base/sha256.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "cli/nearest.h"
#include "format/hub_client.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

struct PullArgs {
  std::string model;
  bool force = false, verify = false, dry_run = false;
  std::string revision = "main";
  std::vector<std::string> include;
  std::string out;
};

// What is to be fetched, and where it will lie.
struct Target {
  std::optional<HubReference> reference;  // else a URL
  std::string url, file_name;
  std::string folder;

  std::string Resolved() const { return reference ? "hf://" + reference->repo + (reference->file.empty() ? "" : "/" + reference->file) : url; }
};

[[noreturn]] void UnknownName(const std::string& name) {
  std::string near;
  for (const auto& [alias, repo] : ModelAliases()) {
    if (EditDistance(name, alias) <= 2) near += fmt::format("{}{} ({})", near.empty() ? "" : ", ", alias, repo);
  }
  throw Error(ErrorCode::kValidationFailed, fmt::format("'{}' is no ORG/REPO, no URL and no known short name{}", name, near.empty() ? "" : "; did you mean " + near + "?"));
}

Target Parse(const PullArgs& args) {
  Target out;
  if (args.model.starts_with("http://") || args.model.starts_with("https://")) {
    out.url = args.model;
    const std::string path = args.model.substr(0, args.model.find_first_of("?#"));
    out.file_name = path.substr(path.rfind('/') + 1);
    if (out.file_name.empty() || path.find('/', path.find("//") + 2) == path.npos) throw Error(ErrorCode::kUsage, "the URL names no file: " + args.model);
    Sha256 key;
    key.Add(AsBytes(args.model));
    out.folder = args.out.empty() ? (fs::path(UrlCacheRoot()) / key.Hex().substr(0, 16)).string() : args.out;
    return out;
  }
  const auto alias = ModelAliases().find(args.model);
  out.reference = ParseHubReference(alias == ModelAliases().end() ? args.model : alias->second);
  if (!out.reference) UnknownName(args.model);
  out.folder = args.out.empty() ? HubFolder(out.reference->repo) : args.out;
  return out;
}

Json Document(const PullArgs& args, const Target& target, const char* mode, const Console& console) {
  return {{"model", args.model},
          {"resolved", target.Resolved()},
          {"revision", target.reference ? Json(args.revision) : Json(nullptr)},
          {"revision_kind", target.reference ? Json(RevisionKind(args.revision)) : Json(nullptr)},
          {"offline", IsOffline(console.offline())},
          {"mode", mode},
          {"path", target.folder}};
}

int DryRun(const PullArgs& args, const Target& target, Console& console) {
  if (console.json()) console.Document(Document(args, target, "dry_run", console));
  console.Line(fmt::format("would fetch {} at {} into {}", target.Resolved(), target.reference ? args.revision : "that address", target.folder));
  return 0;
}

int Verify(const PullArgs& args, const Target& target, Console& console) {
  const auto problems = VerifyHubFolder(target.folder);
  if (console.json()) {
    Json document = Document(args, target, "verify", console);
    document["passed"] = problems.empty();
    document["problems"] = Json::array();
    for (const auto& [name, what] : problems) document["problems"].push_back({{"file", name}, {"problem", what}});
    console.Document(document);
  }
  for (const auto& [name, what] : problems) console.Line(fmt::format("{} {}", name, what));
  console.Line(fmt::format("{}: {}", target.folder, problems.empty() ? "every file is as it was fetched" : "damaged; apr pull --force fetches it again"));
  return problems.empty() ? 0 : ExitCode(ErrorCode::kValidationFailed);
}

// Without a network: what is there, if all of it is.
int Offline(const PullArgs& args, const Target& target, Console& console) {
  const auto manifest = fs::is_directory(target.folder) ? ReadHubManifest(target.folder) : std::nullopt;
  bool whole = manifest && !args.force && (args.revision == manifest->revision || args.revision == manifest->commit);
  if (whole) {
    for (const auto& [name, file] : manifest->files) {
      std::error_code error;
      whole = whole && fs::is_regular_file(fs::path(target.folder) / name, error) && fs::file_size(fs::path(target.folder) / name, error) == file.size;
    }
  }
  if (!whole) Network::Get(console.offline(), fmt::format("{} is not whole in the cache and cannot be fetched", target.Resolved()));
  if (console.json()) console.Document(Document(args, target, "cached", console));
  console.Line(target.folder + ": in the cache");
  return 0;
}

PullReport FetchUrl(const Network& network, const PullArgs& args, const Target& target) {
  PullReport out;
  const std::string path = (fs::path(target.folder) / target.file_name).string();
  if (const auto before = fs::is_directory(target.folder) ? ReadHubManifest(target.folder) : std::nullopt; before && !args.force && fs::exists(path)) {
    out.manifest = *before;
    out.kept_files = 1;
    return out;
  }
  out.manifest = {target.url, "", "", {}};
  out.manifest.files[target.file_name] = FetchFile(network, target.url, path, {target.file_name, std::nullopt, ""}, &out.resumed_bytes);
  out.fetched_files = 1;
  out.fetched_bytes = out.manifest.files[target.file_name].size;
  WriteTextFile((fs::path(target.folder) / kHubManifestName).string(), out.manifest.ToText(), Overwrite::kAllow);
  return out;
}

PullReport Fetch(const PullArgs& args, const Target& target, Console& console) {
  const Network network = Network::Get(console.offline(), "nothing can be fetched");
  if (!target.reference) return FetchUrl(network, args, target);
  std::vector<std::string> include = args.include;
  if (!target.reference->file.empty()) include.push_back(target.reference->file);
  return PullRepo(network, {.repo = target.reference->repo, .revision = args.revision, .folder = target.folder, .include = include, .force = args.force});
}

int Run(const PullArgs& args, Console& console) {
  const Target target = Parse(args);
  if (args.dry_run) return DryRun(args, target, console);
  if (args.verify) return Verify(args, target, console);
  if (IsOffline(console.offline())) return Offline(args, target, console);
  const PullReport report = Fetch(args, target, console);
  if (console.json()) {
    Json document = Document(args, target, "fetched", console);
    document["commit"] = report.manifest.commit.empty() ? Json(nullptr) : Json(report.manifest.commit);
    document["fetched_files"] = report.fetched_files;
    document["fetched_bytes"] = report.fetched_bytes;
    document["resumed_bytes"] = report.resumed_bytes;
    document["kept_files"] = report.kept_files;
    document["files"] = Json::object();
    for (const auto& [name, file] : report.manifest.files) document["files"][name] = {{"size", file.size}, {"sha256", file.sha256}};
    console.Document(document);
  }
  console.Line(fmt::format("{}: {} files fetched ({}), {} kept", target.folder, report.fetched_files, HumanBytes(report.fetched_bytes), report.kept_files));
  return 0;
}

CommandRunner DefinePull(Flags& app) {
  auto args = std::make_shared<PullArgs>();
  app.AddOption("model", args->model, "ORG/REPO, hf://ORG/REPO[/FILE], a URL of one file, or a short name")->Required()->TypeName("REF");
  auto* force = app.AddFlag("--force", args->force, "fetch again what is there");
  auto* verify = app.AddFlag("--verify", args->verify, "read what was fetched again and compare SHA-256; fetches nothing")->Excludes(force);
  app.AddFlag("--dry-run", args->dry_run, "say what would be fetched; touches no network")->Excludes(verify);
  app.AddOption("--revision", args->revision, "branch, tag or commit")->TypeName("NAME");
  app.AddOption("--include", args->include, "only files that match, with * and ?; may be repeated")->TypeName("GLOB")->Excludes(verify);
  app.AddOption("-o,--out", args->out, "folder to use instead of the cache")->TypeName("FOLDER");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kPullCommand = {
    .name = "pull",
    .group = "Changing and moving models",
    .summary = "Fetches a model into the local cache, checked and resumable",
    .example = "  apr pull HuggingFaceTB/SmolLM2-135M-Instruct\n"
               "  apr pull hf://org/repo --include '*Q4_K_M.gguf' --revision main\n"
               "  apr pull org/repo --verify",
    .define = DefinePull,
};

}  // namespace apr
