// Rewriting an .apr file with other metadata: tensors, their order and the flags stay.
#pragma once

#include <memory>
#include <string>

#include "format/model_writer.h"

namespace apr {

struct AprStampArgs {
  std::string out;
  MetaList patch;  // keys that are set; all others stay as they are and where they are
  Overwrite overwrite = Overwrite::kRefuse;
};

// The same patch gives the same bytes, however often it is applied. Throws kUsage for an empty patch,
// kInvalidFormat if `file` is no .apr.
void StampApr(std::shared_ptr<const ModelFile> file, const AprStampArgs& args);

}  // namespace apr
