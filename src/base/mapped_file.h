// A file mapped read-only into memory. Opening costs no reading; pages come when touched.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"

namespace apr {

class MappedFile {
 public:
  // Throws kNotFound (absent, or a directory, device or pipe), kIo (cannot be opened or mapped). An
  // empty file is legal and maps to no bytes.
  static std::shared_ptr<const MappedFile> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  // Valid as long as this object lives.
  Bytes bytes() const { return {data_, size_}; }

  // Tells the kernel that a range will be read soon / is not needed any more. Never fails; ranges
  // are cut to whole pages inside the file.
  void WillNeed(uint64_t offset, uint64_t count) const;
  void DontNeed(uint64_t offset, uint64_t count) const;

 private:
  MappedFile() = default;
  std::string path_;
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace apr
