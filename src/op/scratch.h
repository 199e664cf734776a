// Memory that a kernel needs for the length of a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace apr {

// Grows, never shrinks; 64-byte aligned, contents undefined. Meant to be thread_local, one per purpose.
class Scratch {
 public:
  template <typename T>
  T* Get(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T) + 64;
    if (bytes > size_) {
      data_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
      size_ = bytes;
    }
    return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(data_.get()) + 63) & ~uintptr_t{63});
  }

 private:
  std::unique_ptr<std::byte[]> data_;
  size_t size_ = 0;
};

}  // namespace apr
