// See hub_cache.h.
#include "format/hub_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "format/container_checks.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

// As the hub allows: letters, digits, - _ . and not a dot in front.
bool IsRepoPart(std::string_view part) {
  return !part.empty() && part.size() <= 96 && part.front() != '.' && part.front() != '-' && std::ranges::all_of(part, IsNameCharacter);
}

fs::path Home() {
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') throw Error(ErrorCode::kIo, "HOME is not set: there is no place for a cache");
  return home;
}

fs::path HuggingFaceRoot() {
  if (const char* set = std::getenv("HF_HUB_CACHE"); set != nullptr && *set != '\0') return set;
  if (const char* set = std::getenv("HF_HOME"); set != nullptr && *set != '\0') return fs::path(set) / "hub";
  return Home() / ".cache/huggingface/hub";
}

std::vector<fs::path> FoldersIn(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_directory(error)) out.push_back(entry.path());
  }
  std::ranges::sort(out);
  return out;
}

void AddSizes(const fs::path& folder, CachedModel& out) {
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(folder, error); !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (!fs::is_regular_file(it->path(), error) || it->path().filename() == kHubManifestName) continue;
    ++out.files;
    out.bytes += fs::file_size(it->path(), error);
  }
}

bool IsComplete(const fs::path& folder, const HubManifest& manifest) {
  return std::ranges::all_of(manifest.files, [&](const auto& entry) {
    std::error_code error;
    return fs::is_regular_file(folder / entry.first, error) && fs::file_size(folder / entry.first, error) == entry.second.size;
  });
}

CachedModel Describe(const fs::path& folder, std::string repo, std::string cache) {
  CachedModel out{std::move(repo), std::move(cache), folder.string(), "", 0, 0, true};
  AddSizes(folder, out);
  if (out.cache == "huggingface") return out;
  try {
    const auto manifest = ReadHubManifest(folder.string());
    out.complete = manifest && IsComplete(folder, *manifest);
    if (manifest) out.revision = manifest->revision;
  } catch (const Error&) {
    out.complete = false;  // a manifest that cannot be read vouches for nothing
  }
  return out;
}

// refs/main of Hugging Face's layout names the commit whose snapshot is meant.
std::optional<fs::path> Snapshot(const fs::path& repo_folder) {
  std::string commit;
  std::ifstream(repo_folder / "refs" / "main") >> commit;
  std::error_code error;
  if (!commit.empty() && !NameProblem(commit) && commit.find('/') == commit.npos && fs::is_directory(repo_folder / "snapshots" / commit, error)) {
    return repo_folder / "snapshots" / commit;
  }
  const std::vector<fs::path> snapshots = FoldersIn(repo_folder / "snapshots");
  return snapshots.empty() ? std::nullopt : std::optional(snapshots.back());
}

// "models--org--repo".
fs::path HuggingFaceFolder(const std::string& repo) {
  const size_t slash = repo.find('/');
  return HuggingFaceRoot() / fmt::format("models--{}--{}", repo.substr(0, slash), repo.substr(slash + 1));
}

std::optional<std::string> Inside(const fs::path& folder, const std::string& file) {
  std::error_code error;
  const fs::path path = file.empty() ? folder : folder / file;
  return fs::exists(path, error) ? std::optional(path.string()) : std::nullopt;
}

}  // namespace

std::optional<HubReference> ParseHubReference(std::string_view text) {
  const bool scheme = text.starts_with("hf://");
  if (scheme) text.remove_prefix(5);
  const size_t slash = text.find('/');
  if (slash == text.npos) return std::nullopt;
  const size_t second = std::min(text.find('/', slash + 1), text.size());
  const std::string_view org = text.substr(0, slash), name = text.substr(slash + 1, second - slash - 1);
  if (!IsRepoPart(org) || !IsRepoPart(name)) return std::nullopt;
  HubReference out{std::string(text.substr(0, second)), ""};
  if (second == text.size()) return out;
  out.file = std::string(text.substr(second + 1));
  // Only the scheme makes a longer path a reference.
  if (!scheme || out.file.empty() || NameProblem(out.file)) return std::nullopt;
  return out;
}

const std::map<std::string, std::string, std::less<>>& ModelAliases() {
  static const std::map<std::string, std::string, std::less<>> kAliases = {
      {"smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"},
      {"smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct"},
      {"smollm3", "HuggingFaceTB/SmolLM3-3B"},
      {"qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct"},
      {"qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct"},
      {"qwen3-0.6b", "Qwen/Qwen3-0.6B"},
      {"tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"},
      {"gpt2", "openai-community/gpt2"},
      {"phi3", "microsoft/Phi-3-mini-4k-instruct"},
  };
  return kAliases;
}

std::string HubManifest::ToText() const {
  Json list = Json::object();
  for (const auto& [name, file] : files) list[name] = {{"size", file.size}, {"sha256", file.sha256}};
  return DumpJson({{"version", 1}, {"repo", repo}, {"revision", revision}, {"commit", commit}, {"files", std::move(list)}}) + "\n";
}

std::optional<HubManifest> ReadHubManifest(const std::string& folder) {
  const std::string path = (fs::path(folder) / kHubManifestName).string();
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  const auto file = MappedFile::Open(path);
  const Json json = ParseJson(AsText(file->bytes()), path);
  const auto fail = [&](const std::string& what) { throw Error(ErrorCode::kInvalidFormat, what, {.file = path, .offset = 0}); };
  try {
    if (json.at("version") != 1) fail("unknown version of a manifest");
    HubManifest out{json.at("repo"), json.value("revision", ""), json.value("commit", ""), {}};
    for (const auto& [name, entry] : json.at("files").items()) {
      if (name.empty() || NameProblem(name)) fail("a file's name in the manifest leads out of the folder");
      out.files[name] = {entry.at("size").get<uint64_t>(), entry.at("sha256").get<std::string>()};
    }
    return out;
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidFormat, std::string("not a manifest: ") + e.what(), {.file = path, .offset = 0});
  }
}

std::string HubCacheRoot() { return (Home() / ".apr/cache/hf").string(); }
std::string HubFolder(const std::string& repo) { return (fs::path(HubCacheRoot()) / repo).string(); }
std::string UrlCacheRoot() { return (Home() / ".apr/cache/urls").string(); }

Json CachedModel::ToJson() const {
  return {{"repo", repo}, {"cache", cache}, {"path", path}, {"revision", revision.empty() ? Json(nullptr) : Json(revision)},
          {"files", files}, {"size_bytes", bytes}, {"complete", complete}};
}

std::vector<CachedModel> ListCachedModels() {
  std::vector<CachedModel> out;
  for (const fs::path& org : FoldersIn(HubCacheRoot())) {
    for (const fs::path& repo : FoldersIn(org)) out.push_back(Describe(repo, org.filename().string() + "/" + repo.filename().string(), "apr"));
  }
  for (const fs::path& url : FoldersIn(UrlCacheRoot())) out.push_back(Describe(url, url.filename().string(), "urls"));
  for (const fs::path& folder : FoldersIn(HuggingFaceRoot())) {
    std::string name = folder.filename().string();
    if (!name.starts_with("models--")) continue;
    name.erase(0, 8);
    if (const size_t at = name.find("--"); at != name.npos) name = fmt::format("{}/{}", name.substr(0, at), name.substr(at + 2));
    if (const auto snapshot = Snapshot(folder)) out.push_back(Describe(*snapshot, name, "huggingface"));
  }
  return out;
}

std::optional<std::string> FindCached(const HubReference& reference) {
  if (auto own = Inside(HubFolder(reference.repo), reference.file)) return own;
  const auto snapshot = Snapshot(HuggingFaceFolder(reference.repo));
  return snapshot ? Inside(*snapshot, reference.file) : std::nullopt;
}

std::string ResolveModelPath(const std::string& argument) {
  std::error_code error;
  if (fs::exists(argument, error)) return argument;
  const auto alias = ModelAliases().find(argument);
  const auto reference = ParseHubReference(alias == ModelAliases().end() ? argument : alias->second);
  if (!reference || std::getenv("HOME") == nullptr) return argument;
  if (const auto found = FindCached(*reference)) return *found;
  if (!argument.starts_with("hf://")) return argument;
  throw Error(ErrorCode::kNotFound, "not in the cache; `apr pull " + reference->repo + "` fetches it", {.file = argument});
}

CachedModel RemoveCachedModel(const std::string& repo) {
  const auto reference = ParseHubReference(repo);
  if (!reference || !reference->file.empty()) throw Error(ErrorCode::kUsage, "'" + repo + "' is no ORG/REPO");
  const fs::path folder = HubFolder(reference->repo);
  std::error_code error;
  if (!fs::is_directory(folder, error)) throw Error(ErrorCode::kNotFound, "not in the cache", {.file = folder.string()});
  CachedModel model = Describe(folder, reference->repo, "apr");
  fs::remove_all(folder, error);
  if (error) throw Error(ErrorCode::kIo, "cannot remove: " + error.message(), {.file = folder.string()});
  fs::remove(folder.parent_path(), error);  // the organisation's folder, if that was the last
  return model;
}

}  // namespace apr
