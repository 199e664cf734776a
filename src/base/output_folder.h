// A folder that is filled: what was made for it goes again unless all of it was written.
#pragma once

#include <string>

namespace apr {

class OutputFolder {
 public:
  // Makes `path` where it is not. Throws kIo if that cannot be.
  explicit OutputFolder(const std::string& path);
  // Removes what the constructor made, and what was put there since, unless Keep() was reached.
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  void Keep() { made_.clear(); }

 private:
  std::string made_;  // the outermost folder that was not there; empty: nothing
};

}  // namespace apr
