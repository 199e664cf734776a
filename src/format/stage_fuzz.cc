// Fuzz target of stage files (first byte even) and stage manifests (odd).
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "format/stage_file.h"

namespace {

void ReadManifest(std::string_view text) {
  const auto [manifest, stages] = apr::ParseStageManifest(text, "stages.json");
  // What was read and written again says the same.
  const std::string again = apr::FormatStageManifest(manifest, stages);
  const auto [manifest2, stages2] = apr::ParseStageManifest(again, "stages.json");
  if (stages2.size() != stages.size() || manifest2.ids != manifest.ids) std::abort();
  for (size_t i = 0; i < stages.size(); ++i) {
    if (stages[i].name != stages2[i].name || stages[i].shape != stages2[i].shape) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const apr::Bytes bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  try {
    if (data[0] % 2 == 1) {
      ReadManifest(apr::AsText(bytes));
    } else {
      const apr::StageFile stage = apr::ParseStageFile(bytes, "fuzz.bin");
      if (stage.values.size() * 4 + 12 != bytes.size()) std::abort();
    }
  } catch (const apr::Error& error) {
    if (error.context().file.empty()) std::abort();
  }
  return 0;
}
