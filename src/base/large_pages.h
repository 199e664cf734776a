// Memory for tables that are read at random places: from 2 MiB on, on large pages where the system gives them, which
// saves page faults while a table is filled and misses of the address cache while it is used.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <vector>

namespace apr {

template <typename T>
struct LargePageAllocator {
  using value_type = T;  // NOLINT(readability-identifier-naming): as allocators call it
  static constexpr size_t kPage = size_t{2} << 20;

  LargePageAllocator() = default;
  template <typename U>
  LargePageAllocator(const LargePageAllocator<U>&) {}  // NOLINT(google-explicit-constructor): as allocators convert

  T* allocate(size_t count) {
    if (count > ~size_t{0} / 2 / sizeof(T)) throw std::bad_alloc();
    const size_t bytes = count * sizeof(T);
    if (bytes < kPage) return static_cast<T*>(::operator new(bytes, std::align_val_t(alignof(T))));
    void* memory = ::operator new(bytes, std::align_val_t(kPage));
    madvise(memory, bytes / kPage * kPage, MADV_HUGEPAGE);  // advice: what fails costs time only
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t count) {
    const bool large = count * sizeof(T) >= kPage;
    ::operator delete(memory, std::align_val_t(large ? kPage : alignof(T)));
  }
  template <typename U>
  bool operator==(const LargePageAllocator<U>&) const {
    return true;
  }
};

template <typename T>
using LargeVector = std::vector<T, LargePageAllocator<T>>;

}  // namespace apr
