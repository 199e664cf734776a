// See output_folder.h.
#include "base/output_folder.h"

#include <filesystem>

#include "base/error.h"

namespace apr {

OutputFolder::OutputFolder(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path missing;
  for (fs::path at = fs::absolute(path); !at.empty() && !fs::exists(at, error) && at != at.root_path(); at = at.parent_path()) {
    if (at.has_filename()) missing = at;
  }
  fs::create_directories(path, error);
  if (error) throw Error(ErrorCode::kIo, "cannot make the folder: " + error.message(), {.file = path});
  made_ = missing.string();
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  if (!made_.empty()) std::filesystem::remove_all(made_, ignored);
}

}  // namespace apr
