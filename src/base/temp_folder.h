// A folder with a name of its own that goes with its object.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "base/error.h"

namespace apr {

class TempFolder {
 public:
  // Throws kIo if it cannot be made.
  explicit TempFolder(const std::string& purpose) {
    std::string pattern = (std::filesystem::temp_directory_path() / ("apr-" + purpose + "-XXXXXX")).string();
    if (mkdtemp(pattern.data()) == nullptr) throw Error(ErrorCode::kIo, "no temporary folder can be made", {.file = pattern});
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace apr
