// Models that were fetched from a hub, as they lie on this machine: our own cache, and the one that Hugging Face's
// tools keep, which is read and never changed. Nothing here touches the network.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"

namespace apr {

// "hf://org/repo[/file]" or "org/repo".
struct HubReference {
  std::string repo;  // "org/repo"
  std::string file;  // within it; empty: the whole

  bool operator==(const HubReference&) const = default;
};
// `text` as a reference; nullopt if it has not that form (a path such as ./x/y, /x/y, ../x or a/b/c is none).
std::optional<HubReference> ParseHubReference(std::string_view text);

// Short names that people use: "smollm2" is "HuggingFaceTB/SmolLM2-135M-Instruct".
const std::map<std::string, std::string, std::less<>>& ModelAliases();

// Of one fetched repository: <folder>/.apr-manifest.json.
struct HubFile {
  uint64_t size = 0;
  std::string sha256;
};
struct HubManifest {
  std::string repo, revision, commit;
  std::map<std::string, HubFile> files;

  std::string ToText() const;
};
inline constexpr char kHubManifestName[] = ".apr-manifest.json";
// nullopt without one. Throws kInvalidFormat.
std::optional<HubManifest> ReadHubManifest(const std::string& folder);

// ~/.apr/cache/hf/<org>/<repo>, ~/.apr/cache/urls.
std::string HubCacheRoot();
std::string HubFolder(const std::string& repo);
std::string UrlCacheRoot();

struct CachedModel {
  std::string repo;      // "org/repo", or the URL's key
  std::string cache;     // "apr", "urls", "huggingface"
  std::string path;
  std::string revision;  // where it is known
  uint64_t files = 0, bytes = 0;
  bool complete = true;  // false: no manifest, or files of it are absent or of another size

  Json ToJson() const;
};
std::vector<CachedModel> ListCachedModels();

// Where a reference lies, in our cache or Hugging Face's; nullopt if in neither.
std::optional<std::string> FindCached(const HubReference& reference);

// What a model argument means: an existing path is that path. Otherwise a reference, or an alias, that is in
// the cache is its folder or file. Otherwise the argument comes back as it is (and opening it says "not
// found"); an hf:// reference that is not in the cache throws kNotFound and says how to fetch it.
std::string ResolveModelPath(const std::string& argument);

// Removes a repository from our cache, parts included. Throws kNotFound; the caches of other tools are not touched.
CachedModel RemoveCachedModel(const std::string& repo);

}  // namespace apr
