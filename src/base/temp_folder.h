// For tests: a folder of this process that goes with its object.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>

namespace apr {

class TempFolder {
 public:
  explicit TempFolder(const std::string& purpose) : path_(std::filesystem::temp_directory_path() / ("apr-" + purpose + "-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace apr
