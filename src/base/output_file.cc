// See output_file.h.
#include "base/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/signals_held.h"

namespace apr {
namespace {

constexpr size_t kBufferBytes = 1 << 20, kPieceBytes = 4 << 20;
constexpr uint64_t kWriteBehindBytes = 32 << 20;

// Reads a byte of every page. Linux copies what is written with page faults disabled; where a page of a mapped file is not
// there yet it goes on in small steps, and the new file's pages lie in memory one by one: slow to write, and a third as
// fast to map and read afterwards.
void Touch(Bytes bytes) {
  constexpr size_t kPage = 4096;
  for (size_t at = 0; at < bytes.size(); at += kPage) {
    [[maybe_unused]] const volatile std::byte read = bytes[at];
  }
  if (!bytes.empty()) [[maybe_unused]] const volatile std::byte last = bytes.back();
}

// Names of open temporary files for the signal handler: fixed storage, no allocation, no locks.
constexpr int kMaxOpen = 64;
struct Slot {
  std::atomic<bool> used{false};
  std::atomic<bool> ready{false};
  char path[4096];
};
Slot g_open[kMaxOpen];

void Remember(const std::string& path) {
  for (Slot& slot : g_open) {
    bool expected = false;
    if (path.size() >= sizeof slot.path || !slot.used.compare_exchange_strong(expected, true)) continue;
    std::memcpy(slot.path, path.c_str(), path.size() + 1);
    slot.ready.store(true, std::memory_order_release);
    return;
  }
}

void Forget(const std::string& path) {
  for (Slot& slot : g_open) {
    if (!slot.ready.load(std::memory_order_acquire) || path != slot.path) continue;
    slot.ready.store(false, std::memory_order_release);
    slot.used.store(false, std::memory_order_release);
    return;
  }
}

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace

OutputFile::OutputFile(std::string path, Overwrite overwrite)
    : path_(std::move(path)), overwrite_(overwrite) {
  struct stat info {};
  if (lstat(path_.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) {
      throw Error(ErrorCode::kIo, "is a directory, cannot be written as a file", {.file = path_});
    }
    if (overwrite_ == Overwrite::kRefuse) {
      throw Error(ErrorCode::kValidationFailed, "exists; give --force to replace it", {.file = path_});
    }
  }
  temporary_ = path_ + ".XXXXXX";
  {
    // A signal between the two would leave a file that no handler knows.
    const SignalsHeld held;
    fd_ = mkostemp(temporary_.data(), O_CLOEXEC);
    if (fd_ >= 0) Remember(temporary_);
  }
  if (fd_ < 0) Fail("cannot create");
  // mkostemp makes the file private; give it what the umask would have given.
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(fd_, 0666 & ~mask);
  buffer_.reserve(kBufferBytes);
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
  Forget(temporary_);
}

void OutputFile::Fail(const char* doing) const {
  throw Error(ErrorCode::kIo, std::string(doing) + ": " + std::strerror(errno), {.file = path_});
}

void OutputFile::Flush() {
  WriteThrough(AsBytes(buffer_));
  buffer_.clear();
}

void OutputFile::WriteThrough(Bytes bytes) {
  while (!bytes.empty()) {
    const Bytes piece = bytes.first(std::min(bytes.size(), kPieceBytes));
    Touch(piece);
    const ssize_t written = write(fd_, piece.data(), piece.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) Fail("cannot write");
    bytes = bytes.subspan(static_cast<size_t>(written));
    WriteBehind(static_cast<uint64_t>(written));
  }
}

// Has the kernel begin to store what was written, so that the sync at the end has little left to wait for.
void OutputFile::WriteBehind(uint64_t more) {
  pending_ += more;
  if (pending_ < kWriteBehindBytes) return;
  sync_file_range(fd_, static_cast<off64_t>(begun_), static_cast<off64_t>(pending_), SYNC_FILE_RANGE_WRITE);
  begun_ += pending_;
  pending_ = 0;
}

void OutputFile::Write(Bytes bytes) {
  position_ += bytes.size();
  if (bytes.size() >= kBufferBytes) {
    Flush();
    return WriteThrough(bytes);
  }
  while (!bytes.empty()) {
    const size_t take = std::min(bytes.size(), kBufferBytes - buffer_.size());
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), take);
    bytes = bytes.subspan(take);
    if (buffer_.size() == kBufferBytes) Flush();
  }
}

void OutputFile::WriteZeros(uint64_t count) {
  static constexpr std::byte kZeros[4096] = {};
  for (; count > 0; count -= std::min<uint64_t>(count, sizeof kZeros)) {
    Write(Bytes(kZeros, static_cast<size_t>(std::min<uint64_t>(count, sizeof kZeros))));
  }
}

void OutputFile::WriteAt(uint64_t offset, Bytes bytes) {
  Flush();
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) Fail("cannot write");
    offset += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void OutputFile::Commit() {
  Flush();
  if (fsync(fd_) != 0) Fail("cannot sync");
  if (close(std::exchange(fd_, -1)) != 0) {
    unlink(temporary_.c_str());
    Fail("cannot close");
  }
  // link() refuses an existing name in the same step in which it creates it; rename() replaces.
  int result = 0;
  if (overwrite_ == Overwrite::kRefuse) {
    result = link(temporary_.c_str(), path_.c_str());
    const int error = errno;
    // A file system without hard links: rename, after one more look.
    if (result != 0 && error != EEXIST && access(path_.c_str(), F_OK) != 0) {
      result = rename(temporary_.c_str(), path_.c_str());
    } else {
      unlink(temporary_.c_str());
      errno = error;
    }
  } else {
    result = rename(temporary_.c_str(), path_.c_str());
  }
  if (result != 0) {
    const int error = errno;
    unlink(temporary_.c_str());
    Forget(temporary_);
    errno = error;
    Fail("cannot give the finished file its name");
  }
  Forget(temporary_);
  const int folder = open(FolderOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
}

void WriteTextFile(const std::string& path, std::string_view text, Overwrite overwrite) {
  OutputFile file(path, overwrite);
  file.Write(text);
  file.Commit();
}

void RemoveTemporaryFilesInSignalHandler() {
  for (const Slot& slot : g_open) {
    if (slot.ready.load(std::memory_order_acquire)) unlink(slot.path);
  }
}

}  // namespace apr
