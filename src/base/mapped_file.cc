// See mapped_file.h.
#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace apr {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void ThrowErrno(ErrorCode code, const std::string& path, const char* doing) {
  throw Error(code, std::string(doing) + ": " + std::strerror(errno), {.file = path});
}

// Advises the whole pages that lie inside [offset, offset + count) of a mapping of `size` bytes.
void Advise(const std::byte* data, uint64_t size, uint64_t offset, uint64_t count, int advice) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  if (data == nullptr || offset >= size) return;
  const uint64_t end = count > size - offset ? size : offset + count;
  const bool shrink = advice == MADV_DONTNEED;
  const uint64_t first = shrink ? AlignUp(offset, page) : offset / page * page;
  const uint64_t last = shrink && end != size ? end / page * page : end;
  if (first >= last) return;
  madvise(const_cast<std::byte*>(data) + first, last - first, advice);
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a pipe nobody writes to must not hang; it has no effect on regular files.
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) {
    const bool absent = errno == ENOENT || errno == ENOTDIR;
    ThrowErrno(absent ? ErrorCode::kNotFound : ErrorCode::kIo, path, "cannot open");
  }
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) ThrowErrno(ErrorCode::kIo, path, "cannot stat");
  if (!S_ISREG(info.st_mode)) {
    throw Error(ErrorCode::kNotFound, "not a regular file", {.file = path});
  }
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  file->size_ = static_cast<uint64_t>(info.st_size);
  if (file->size_ == 0) return file;
  void* address = mmap(nullptr, file->size_, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) ThrowErrno(ErrorCode::kIo, path, "cannot map");
  file->data_ = static_cast<const std::byte*>(address);
  return file;
}

std::shared_ptr<const MappedFile> MappedFile::InMemory(
    const std::string& name, uint64_t size, const std::function<void(std::span<std::byte>)>& fill) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = name;
  if (size == 0) return file;
  void* address =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) ThrowErrno(ErrorCode::kIo, name, "cannot get memory");
  file->data_ = static_cast<const std::byte*>(address);
  file->size_ = size;
  file->memory_ = Memory::kAnonymous;
  fill({static_cast<std::byte*>(address), size});
  mprotect(address, size, PROT_READ);
  return file;
}

std::shared_ptr<const MappedFile> MappedFile::Reserved(const std::string& name, uint64_t size) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = name;
  if (size == 0) return file;
  void* address = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) ThrowErrno(ErrorCode::kIo, name, "cannot get a range of addresses");
  file->data_ = static_cast<const std::byte*>(address);
  file->size_ = size;
  file->memory_ = Memory::kAnonymous;
  return file;
}

std::shared_ptr<const MappedFile> MappedFile::Borrowed(const std::string& name, Bytes bytes) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = name;
  file->data_ = bytes.data();
  file->size_ = bytes.size();
  file->memory_ = Memory::kBorrowed;
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr && memory_ != Memory::kBorrowed) munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::WillNeed(uint64_t offset, uint64_t count) const {
  if (memory_ != Memory::kFile) return;
  Advise(data_, size_, offset, count, MADV_WILLNEED);
}
void MappedFile::DontNeed(uint64_t offset, uint64_t count) const {
  if (memory_ != Memory::kFile) return;  // there is no file to read the bytes from again
  Advise(data_, size_, offset, count, MADV_DONTNEED);
}

}  // namespace apr
