// A gzip-compressed tar archive (POSIX.1-1988 ustar inside RFC 1952), written and read as a stream. Only
// regular files; the reader takes nothing else, and no name that leaves the folder it unpacks into.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/output_file.h"

namespace apr {

class TarGzWriter {
 public:
  // Throws as OutputFile.
  TarGzWriter(const std::string& path, Overwrite overwrite);
  ~TarGzWriter();
  TarGzWriter(const TarGzWriter&) = delete;
  TarGzWriter& operator=(const TarGzWriter&) = delete;

  // `name`: relative, parts between slashes. Throws kValidationFailed for one that tar cannot hold (255
  // bytes, a part of it 100).
  void Add(const std::string& name, std::string_view text);
  // The whole of a file on disk, piece by piece.
  void AddFile(const std::string& name, const std::string& path);
  void Finish();  // the archive appears under its name

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct TarLimits {
  uint64_t total_bytes = uint64_t{16} << 30;  // of all files, unpacked
  uint64_t files = 100000;
};

// True if the file begins as gzip does.
bool LooksLikeGzip(const std::string& path);

// Unpacks into `folder` (made if absent; must be empty of the names in the archive). Throws kNotFound,
// kInvalidFormat (offset in the unpacked stream): damaged or cut off, a link or device, a name that is
// absolute or has "..", a name that comes twice, more than the limits allow.
void UnpackTarGz(const std::string& path, const std::string& folder, const TarLimits& limits = {});

}  // namespace apr
