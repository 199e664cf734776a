// APRT: one captured stage of a forward pass as a file, and a directory of them with its manifest.
// Byte table: docs/formats/aprt.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/json_fwd.h"
#include "base/output_file.h"
#include "tensor/tensor.h"

namespace apr {

// The layer number of a stage that belongs to the whole model (final_norm, lm_head).
inline constexpr uint32_t kWholeModel = 0xFFFFFFFF;

struct StageFile {
  uint32_t layer = kWholeModel;
  std::vector<float> values;  // bit-exact, NaN payloads included
};

// Throws kNotFound, kInvalidFormat (wrong magic, or size other than 12 + 4 * count).
StageFile ReadStageFile(const std::string& path);
StageFile ParseStageFile(Bytes bytes, const std::string& file);
bool LooksLikeStageFile(Bytes bytes);  // begins with "APRT"
// Missing folders of `path` are made. Throws kIo, kValidationFailed (exists), kInvalidFormat (more than
// 2^32 - 1 values).
void WriteStageFile(const std::string& path, uint32_t layer, std::span<const float> values,
                    Overwrite overwrite);

// "layer-3/q_post_rope" or "lm_head": layer and stage of a name in a stage directory. nullopt: no such
// form.
struct StageName {
  uint32_t layer = kWholeModel;
  std::string stage;
  std::string ToString() const;
};
std::optional<StageName> ParseStageName(std::string_view name);

// The number formats that a run declares. Empty: not said.
struct StagePrecision {
  std::string weights, activations, accumulate;
};

// What stages.json says beside the stages.
struct StageManifest {
  std::string engine, model, architecture;
  StagePrecision precision;
  std::string executor;      // older manifests: "float32 cpu" instead of a precision
  std::vector<int64_t> ids;  // the token ids that were run
};

struct StageEntry {
  std::string name;  // "layer-0/attn_norm"
  // From the manifest; nullopt without one. [T, W] token-major, [heads, T, T] for scores.
  std::optional<Shape> shape;
};

// A captured run: <dir>/layer-<N>/<stage>.bin, <dir>/<stage>.bin, <dir>/stages.json.
class StageDirectory {
 public:
  // Reads the manifest, or without one the names that lie there: layers ascending, stages of a layer by
  // name, whole-model stages last. Throws kNotFound (no folder, or nothing in it), kInvalidFormat.
  static StageDirectory Open(const std::string& path);

  const std::string& path() const { return path_; }
  bool has_manifest() const { return has_manifest_; }
  const StageManifest& manifest() const { return manifest_; }
  const std::vector<StageEntry>& stages() const { return stages_; }  // in the manifest's order
  const StageEntry* Find(std::string_view name) const;

  // Checks layer and, where the manifest gives a shape, the count. Throws kNotFound (listed but absent),
  // kInvalidFormat.
  StageFile Read(const StageEntry& entry) const;

 private:
  std::string path_;
  bool has_manifest_ = false;
  StageManifest manifest_;
  std::vector<StageEntry> stages_;
};

// The manifest's text for `stages` and back. ParseStageManifest throws kInvalidFormat with `file`.
std::string FormatStageManifest(const StageManifest& manifest, std::span<const StageEntry> stages);
std::pair<StageManifest, std::vector<StageEntry>> ParseStageManifest(std::string_view text,
                                                                     const std::string& file);

// Writes a stage directory. Stages may come in any order and appear in the manifest in that order;
// Finish() writes the manifest last, so a directory without one is an unfinished one.
class StageDirectoryWriter {
 public:
  // An existing stages.json is refused without Overwrite::kAllow; with it, it is removed first, so that
  // a broken-off run does not leave the old manifest over new stages. Other files are left alone.
  StageDirectoryWriter(std::string path, StageManifest manifest, Overwrite overwrite);

  void Write(const StageName& name, const Shape& shape, std::span<const float> values);
  void Finish();

 private:
  std::string path_;
  StageManifest manifest_;
  Overwrite overwrite_;
  std::vector<StageEntry> stages_;
};

}  // namespace apr
