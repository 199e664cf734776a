// Fetching a model repository from a hub (Hugging Face's HTTP interface) into a folder: streamed, resumed
// where it broke off, checked against SHA-256 while it is written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/http.h"
#include "format/hub_cache.h"

namespace apr {

// HF_ENDPOINT, default https://huggingface.co; without a slash at the end.
std::string HubEndpoint();

struct RemoteFile {
  std::string name;                   // within the repository
  std::optional<uint64_t> size;       // where the hub says it
  std::string sha256;                 // of large files; else empty
};
struct RemoteRepo {
  std::string repo, revision, commit;
  std::vector<RemoteFile> files;
};
// Throws kHttpNotFound (no such repository or revision), kNetwork, kInvalidFormat (an answer that makes no
// sense; names that lead out of a folder).
RemoteRepo ListRemoteRepo(const Network& network, const std::string& repo, const std::string& revision);

// "commit" for 40 hexadecimal digits, else "branch" (or tag).
const char* RevisionKind(const std::string& revision);

// Which files a model needs: those that match a pattern of `include` (* and ?), or by default weights (safetensors,
// else GGUF: of several single-file variants the one with Q4_K_M), configuration, tokenizer, template,
// licence and README. Throws kValidationFailed when there are no weights, when a safetensors repository lacks
// config.json or any tokenizer file (unless `include` is given), or when a pattern matches nothing.
std::vector<RemoteFile> SelectFiles(const RemoteRepo& repo, const std::vector<std::string>& include);

// `pattern` with * (any text, slashes too) and ? (one character).
bool MatchesPattern(std::string_view pattern, std::string_view text);

struct PullOptions {
  std::string repo, revision = "main";
  std::string folder;                 // made if absent
  std::vector<std::string> include;
  bool force = false;                 // fetch again what is there
};
struct PullReport {
  HubManifest manifest;
  uint64_t fetched_files = 0, fetched_bytes = 0, resumed_bytes = 0, kept_files = 0;
};
// Files that the manifest of the folder vouches for, of the right size and commit, are kept. Unfinished ones lie beside as
// <name>.part and are resumed. Throws like the functions above, kNetwork when a file's size or checksum is not what the hub says
// (the part is removed), kIo.
PullReport PullRepo(const Network& network, const PullOptions& options);

// One file at `url` to `path`; its SHA-256 and size.
HubFile FetchFile(const Network& network, const std::string& url, const std::string& path, const RemoteFile& expected, uint64_t* resumed);

// Every file of the manifest read again. The names of those that are absent, of another size or checksum, each with the reason. Throws
// kNotFound without a manifest.
std::vector<std::pair<std::string, std::string>> VerifyHubFolder(const std::string& folder);

}  // namespace apr
