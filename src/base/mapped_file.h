// A file mapped read-only into memory. Opening costs no reading; pages come when touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/bytes.h"

namespace apr {

class MappedFile {
 public:
  // Throws kNotFound (absent, or a directory, device or pipe), kIo (cannot be opened or mapped). An
  // empty file is legal and maps to no bytes.
  static std::shared_ptr<const MappedFile> Open(const std::string& path);
  // Memory that behaves as a file named `name`: `size` zero bytes that `fill` writes once. For
  // payloads that are stored compressed, and for tests. Throws kIo when there is no memory.
  static std::shared_ptr<const MappedFile> InMemory(
      const std::string& name, uint64_t size, const std::function<void(std::span<std::byte>)>& fill);
  // Addresses without bytes, for arithmetic with places in a file that does not exist. Throws kIo when there is no such range.
  static std::shared_ptr<const MappedFile> Reserved(const std::string& name, uint64_t size);
  // Bytes of the caller, who keeps them alive, that behave as a file named `name`.
  static std::shared_ptr<const MappedFile> Borrowed(const std::string& name, Bytes bytes);
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
  enum class Memory { kFile, kAnonymous, kBorrowed } memory_ = Memory::kFile;
};

}  // namespace apr
