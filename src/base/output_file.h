// Writing files so that nothing of the user's is lost: bytes go to a temporary name in the same
// folder, are synced, and take the final name in one step. Whatever ends the program before Commit()
// leaves the old file, or none.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace apr {

enum class Overwrite { kRefuse, kAllow };

class OutputFile {
 public:
  // Throws kValidationFailed if `path` exists and overwriting is refused, kIo if the folder cannot
  // be written.
  OutputFile(std::string path, Overwrite overwrite);
  // Removes the temporary file if Commit() was not reached.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return position_; }

  // Appends. Throws kIo (disk full names the path).
  void Write(Bytes bytes);
  void Write(std::string_view text) { Write(AsBytes(text)); }
  void WriteZeros(uint64_t count);
  // Overwrites bytes that were already written.
  void WriteAt(uint64_t offset, Bytes bytes);

  // Flush, fsync, rename, fsync of the folder.
  void Commit();

 private:
  void Flush();
  void WriteThrough(Bytes bytes);
  void WriteBehind(uint64_t more);
  [[noreturn]] void Fail(const char* doing) const;

  std::string path_;
  std::string temporary_;
  Overwrite overwrite_;
  int fd_ = -1;
  uint64_t position_ = 0;
  uint64_t begun_ = 0, pending_ = 0;  // bytes that the kernel was told to store; bytes written since
  std::string buffer_;
};

// The whole of a small text file in one step.
void WriteTextFile(const std::string& path, std::string_view text, Overwrite overwrite);

// Removes the temporary files of every OutputFile that is open; async-signal-safe. For the SIGINT
// and SIGTERM handler.
void RemoveTemporaryFilesInSignalHandler();

}  // namespace apr
