// See computed_bytes.h.
#include "base/computed_bytes.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace apr {
namespace {

[[noreturn]] void FailMemory(const std::string& name, uint64_t size) {
  throw Error(ErrorCode::kIo, "cannot get " + std::to_string(size) + " bytes of memory: " + std::strerror(errno), {.file = name});
}

}  // namespace

std::shared_ptr<const ComputedBytes> ComputedBytes::Reserve(std::string name, uint64_t size, Compute compute) {
  std::shared_ptr<ComputedBytes> out(new ComputedBytes);
  out->name_ = std::move(name);
  out->compute_ = std::move(compute);
  if (size == 0) return out;
  void* address = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) FailMemory(out->name_, size);
  out->data_ = static_cast<std::byte*>(address);
  out->size_ = size;
  madvise(address, size, MADV_HUGEPAGE);  // what is computed is written whole, and soon; a kernel without them says no
  return out;
}

ComputedBytes::~ComputedBytes() {
  if (data_ != nullptr) munmap(data_, size_);
}

void ComputedBytes::Fill() const {
  if (size_ == 0) return;
  if (mprotect(data_, size_, PROT_READ | PROT_WRITE) != 0) FailMemory(name_, size_);
  try {
    compute_({data_, size_});
  } catch (...) {
    Empty();
    throw;
  }
  mprotect(data_, size_, PROT_READ);
}

void ComputedBytes::Empty() const {
  if (size_ == 0) return;
  madvise(data_, size_, MADV_DONTNEED);
  mprotect(data_, size_, PROT_NONE);
}

std::shared_ptr<const void> ComputedBytes::Hold() const {
  {
    const std::lock_guard lock(mutex_);
    if (holders_ == 0) Fill();
    ++holders_;
  }
  return {static_cast<const void*>(this), [self = shared_from_this()](const void*) {
            const std::lock_guard lock(self->mutex_);
            if (--self->holders_ == 0) self->Empty();
          }};
}

}  // namespace apr
