// See hub_client.h.
#include "format/hub_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "format/container_checks.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxListing = 64 << 20;
constexpr size_t kMaxFiles = 100'000;

[[noreturn]] void ThrowIo(const std::string& path, const char* doing) {
  throw Error(ErrorCode::kIo, fmt::format("cannot {}: {}", doing, std::strerror(errno)), {.file = path});
}

// A file that grows piece by piece under its name with .part behind it and keeps what it has when the program ends early.
class PartFile {
 public:
  explicit PartFile(const std::string& path) : path_(path), part_(path + ".part") {
    fs::create_directories(fs::path(path).parent_path());
    fd_ = open(part_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) ThrowIo(part_, "create");
    const off_t end = lseek(fd_, 0, SEEK_END);
    if (end < 0) ThrowIo(part_, "read");
    size_ = static_cast<uint64_t>(end);
  }
  ~PartFile() {
    if (fd_ >= 0) close(fd_);
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  uint64_t size() const { return size_; }

  void Truncate(uint64_t size) {
    if (ftruncate(fd_, static_cast<off_t>(size)) != 0 || lseek(fd_, static_cast<off_t>(size), SEEK_SET) < 0) ThrowIo(part_, "truncate");
    size_ = size;
  }

  void Write(Bytes bytes) {
    while (!bytes.empty()) {
      const ssize_t done = write(fd_, bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) ThrowIo(part_, "write");
      bytes = bytes.subspan(static_cast<size_t>(done));
      size_ += static_cast<uint64_t>(done);
    }
  }

  // What is there already, for the checksum.
  void AddTo(Sha256& sum) const {
    if (size_ == 0) return;
    const auto mapped = MappedFile::Open(part_);
    sum.Add(mapped->bytes());
  }

  void Commit() {
    if (fsync(fd_) != 0) ThrowIo(part_, "sync");
    if (rename(part_.c_str(), path_.c_str()) != 0) ThrowIo(path_, "rename");
  }
  void Remove() const { unlink(part_.c_str()); }

 private:
  std::string path_, part_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

RemoteFile ParseSibling(const Json& entry, const std::string& url) {
  RemoteFile file{entry.at("rfilename").get<std::string>(), std::nullopt, ""};
  if (file.name.empty() || NameProblem(file.name)) {
    throw Error(ErrorCode::kInvalidFormat, "a file's name leads out of the folder: " + Printable(file.name), {.file = url, .offset = 0});
  }
  if (const auto size = entry.find("size"); size != entry.end() && size->is_number_unsigned()) file.size = size->get<uint64_t>();
  const auto lfs = entry.find("lfs");
  if (lfs == entry.end() || !lfs->is_object()) return file;
  for (const char* key : {"sha256", "oid"}) {
    const auto sum = lfs->find(key);
    if (sum == lfs->end() || !sum->is_string()) continue;
    file.sha256 = sum->get<std::string>();
    if (file.sha256.starts_with("sha256:")) file.sha256.erase(0, 7);
  }
  if (const auto size = lfs->find("size"); size != lfs->end() && size->is_number_unsigned()) file.size = size->get<uint64_t>();
  return file;
}

bool Ends(std::string_view name, std::initializer_list<std::string_view> tails) {
  return std::ranges::any_of(tails, [&](std::string_view tail) { return name.ends_with(tail); });
}

std::string_view BaseName(std::string_view name) { return name.substr(name.rfind('/') + 1); }
bool InRoot(const RemoteFile& file) { return file.name.find('/') == file.name.npos; }

bool IsTokenizerFile(std::string_view base) {
  return base == "tokenizer.json" || base == "tokenizer.model" || base == "tokenizer_config.json";
}

bool IsCompanion(std::string_view base) {
  static constexpr std::string_view kNames[] = {"config.json", "generation_config.json", "model.safetensors.index.json", "special_tokens_map.json",
                                                "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja",
                                                "chat_template.json", "README.md", "preprocessor_config.json"};
  return std::ranges::find(kNames, base) != std::end(kNames) || IsTokenizerFile(base) || base.starts_with("LICENSE");
}

// Of several GGUF variants one: Q4_K_M where there is one; parts of a split belong together.
std::vector<RemoteFile> OneGguf(const RemoteRepo& repo, const std::vector<RemoteFile>& ggufs) {
  const auto family = [](const RemoteFile& file) {
    const size_t of = file.name.rfind("-of-");
    return of == file.name.npos || of < 6 ? file.name : file.name.substr(0, of - 6);
  };
  std::set<std::string> families;
  for (const RemoteFile& file : ggufs) families.insert(family(file));
  std::string chosen = *families.begin();
  if (families.size() > 1) {
    chosen.clear();
    for (const std::string& name : families) {
      std::string upper = name;
      std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
      if (upper.find("Q4_K_M") != upper.npos) chosen = name;
    }
    if (chosen.empty()) {
      std::string all;
      for (const std::string& name : families) all += "\n  " + name;
      throw Error(ErrorCode::kValidationFailed, fmt::format("{} has several GGUF files: choose with --include:{}", repo.repo, all));
    }
  }
  std::vector<RemoteFile> out;
  std::ranges::copy_if(ggufs, std::back_inserter(out), [&](const RemoteFile& file) { return family(file) == chosen; });
  return out;
}

std::vector<RemoteFile> Included(const RemoteRepo& repo, const std::vector<std::string>& include) {
  std::vector<RemoteFile> out;
  for (const std::string& pattern : include) {
    if (std::ranges::any_of(repo.files, [&](const RemoteFile& f) { return MatchesPattern(pattern, f.name); })) continue;
    throw Error(ErrorCode::kValidationFailed, fmt::format("{} has no file that matches '{}'", repo.repo, pattern));
  }
  for (const RemoteFile& file : repo.files) {
    if (std::ranges::any_of(include, [&](const std::string& p) { return MatchesPattern(p, file.name); })) out.push_back(file);
  }
  return out;
}

void CheckFetched(const std::string& url, const RemoteFile& expected, const HubFile& got, const PartFile& part) {
  std::string problem;
  if (expected.size && *expected.size != got.size) problem = fmt::format("{} bytes instead of {}", got.size, *expected.size);
  else if (!expected.sha256.empty() && expected.sha256 != got.sha256) problem = fmt::format("SHA-256 {} instead of {}", got.sha256, expected.sha256);
  if (problem.empty()) return;
  part.Remove();
  throw Error(ErrorCode::kNetwork, fmt::format("{}: {}; what was fetched is removed", url, problem));
}

bool IsKept(const PullOptions& options, const std::optional<HubManifest>& before, const RemoteRepo& remote, const RemoteFile& file) {
  if (options.force || !before || before->commit != remote.commit) return false;
  const auto known = before->files.find(file.name);
  std::error_code error;
  const fs::path path = fs::path(options.folder) / file.name;
  return known != before->files.end() && fs::is_regular_file(path, error) && fs::file_size(path, error) == known->second.size &&
         (!file.size || *file.size == known->second.size) && (file.sha256.empty() || file.sha256 == known->second.sha256);
}

}  // namespace

std::string HubEndpoint() {
  const char* set = std::getenv("HF_ENDPOINT");
  std::string out = set == nullptr || *set == '\0' ? "https://huggingface.co" : set;
  while (out.ends_with('/')) out.pop_back();
  return out;
}

const char* RevisionKind(const std::string& revision) {
  const bool hex = revision.size() == 40 && revision.find_first_not_of("0123456789abcdef") == revision.npos;
  return hex ? "commit" : "branch";
}

bool MatchesPattern(std::string_view pattern, std::string_view text) {
  // Greedy with one place to come back to: the last star.
  size_t p = 0, t = 0, star = pattern.npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

RemoteRepo ListRemoteRepo(const Network& network, const std::string& repo, const std::string& revision) {
  const std::string url = fmt::format("{}/api/models/{}/revision/{}?blobs=true", HubEndpoint(), UrlEscaped(repo), UrlEscaped(revision));
  const Json answer = ParseJson(HttpGetText(network, url, kMaxListing), url, {.max_keys = kMaxFiles});
  RemoteRepo out{repo, revision, "", {}};
  try {
    out.commit = answer.at("sha").get<std::string>();
    if (out.commit.empty() || out.commit.find_first_not_of("0123456789abcdefABCDEF") != out.commit.npos) {
      throw Error(ErrorCode::kInvalidFormat, "the hub's commit is no hexadecimal number", {.file = url, .offset = 0});
    }
    for (const Json& entry : answer.at("siblings")) {
      if (out.files.size() >= kMaxFiles) throw Error(ErrorCode::kInvalidFormat, "too many files", {.file = url, .offset = 0});
      out.files.push_back(ParseSibling(entry, url));
    }
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("the hub's answer makes no sense: {}", e.what()), {.file = url, .offset = 0});
  }
  return out;
}

std::vector<RemoteFile> SelectFiles(const RemoteRepo& repo, const std::vector<std::string>& include) {
  if (!include.empty()) return Included(repo, include);
  std::vector<RemoteFile> weights, ggufs, out;
  bool config = false, tokenizer = false;
  for (const RemoteFile& file : repo.files) {
    if (Ends(file.name, {".gguf"})) ggufs.push_back(file);
    if (!InRoot(file)) continue;
    if (Ends(file.name, {".safetensors", ".apr"})) weights.push_back(file);
    if (IsCompanion(BaseName(file.name))) out.push_back(file);
    config |= file.name == "config.json";
    tokenizer |= IsTokenizerFile(file.name);
  }
  if (weights.empty() && ggufs.empty()) {
    throw Error(ErrorCode::kValidationFailed, repo.repo + " holds no safetensors, GGUF or .apr weights; --include fetches what it has");
  }
  if (weights.empty()) {
    weights = OneGguf(repo, ggufs);
  } else if (std::ranges::any_of(weights, [](const RemoteFile& f) { return f.name.ends_with(".safetensors"); })) {
    if (!config) throw Error(ErrorCode::kValidationFailed, repo.repo + " has no config.json: its weights are no model by themselves");
    if (!tokenizer) {
      throw Error(ErrorCode::kValidationFailed, repo.repo + " has neither tokenizer.json, tokenizer.model nor tokenizer_config.json");
    }
  }
  out.insert(out.end(), weights.begin(), weights.end());
  return out;
}

HubFile FetchFile(const Network& network, const std::string& url, const std::string& path, const RemoteFile& expected, uint64_t* resumed) {
  PartFile part(path);
  if (expected.size && part.size() > *expected.size) part.Truncate(0);
  Sha256 sum;
  part.AddTo(sum);
  auto whole = std::make_unique<Sha256>();  // if the server begins at the start again
  bool from_start = part.size() == 0;
  Progress progress(std::string(BaseName(path)), expected.size.value_or(0));
  if (!expected.size || part.size() < *expected.size || part.size() == 0) {
    const auto begin = [&](uint64_t first_byte) {
      from_start = first_byte == 0;
      part.Truncate(first_byte);
      if (resumed != nullptr) *resumed += first_byte;
      progress.Add(first_byte);
    };
    HttpGet(network, {.url = url, .first_byte = part.size()}, begin, [&](Bytes bytes) {
      if (expected.size && part.size() + bytes.size() > *expected.size) {
        part.Remove();
        throw Error(ErrorCode::kNetwork, fmt::format("{}: more than the {} bytes that it should have", url, *expected.size));
      }
      part.Write(bytes);
      (from_start ? *whole : sum).Add(bytes);
      progress.Add(bytes.size());
    });
  }
  const HubFile got{part.size(), (from_start ? *whole : sum).Hex()};
  CheckFetched(url, expected, got, part);
  part.Commit();
  return got;
}

PullReport PullRepo(const Network& network, const PullOptions& options) {
  const RemoteRepo remote = ListRemoteRepo(network, options.repo, options.revision);
  const std::vector<RemoteFile> files = SelectFiles(remote, options.include);
  std::optional<HubManifest> before;
  std::error_code error;
  if (fs::is_directory(options.folder, error)) before = ReadHubManifest(options.folder);
  PullReport out;
  out.manifest = {options.repo, options.revision, remote.commit, {}};
  // Other files of the same commit, from an earlier call with another choice, stay known.
  if (before && before->commit == remote.commit) out.manifest.files = before->files;
  for (const RemoteFile& file : files) {
    if (IsKept(options, before, remote, file)) {
      ++out.kept_files;
      continue;
    }
    const std::string url = fmt::format("{}/{}/resolve/{}/{}", HubEndpoint(), UrlEscaped(options.repo), remote.commit, UrlEscaped(file.name));
    const std::string path = (fs::path(options.folder) / file.name).string();
    out.manifest.files[file.name] = FetchFile(network, url, path, file, &out.resumed_bytes);
    ++out.fetched_files;
    out.fetched_bytes += out.manifest.files[file.name].size;
    // After every file, so that what is finished stays known when the next one breaks off.
    WriteTextFile((fs::path(options.folder) / kHubManifestName).string(), out.manifest.ToText(), Overwrite::kAllow);
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> VerifyHubFolder(const std::string& folder) {
  const auto manifest = ReadHubManifest(folder);
  if (!manifest) throw Error(ErrorCode::kNotFound, fmt::format("no {}: nothing says what the files should be", kHubManifestName), {.file = folder});
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& [name, file] : manifest->files) {
    const fs::path path = fs::path(folder) / name;
    std::error_code error;
    if (!fs::is_regular_file(path, error)) {
      out.emplace_back(name, "is absent");
    } else if (const uint64_t size = fs::file_size(path, error); size != file.size) {
      out.emplace_back(name, fmt::format("has {} bytes instead of {}", size, file.size));
    } else if (const std::string sum = Sha256OfFile(path.string()); sum != file.sha256) {
      out.emplace_back(name, fmt::format("has SHA-256 {} instead of {}", sum, file.sha256));
    }
  }
  return out;
}

}  // namespace apr
