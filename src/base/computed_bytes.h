// Bytes that a function computes: in memory while somebody holds them, an address range alone else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/bytes.h"

namespace apr {

class ComputedBytes : public std::enable_shared_from_this<ComputedBytes> {
 public:
  using Compute = std::function<void(std::span<std::byte>)>;

  // Nothing is computed yet. `name` is for messages. Throws kIo when there is no address range of that size.
  static std::shared_ptr<const ComputedBytes> Reserve(std::string name, uint64_t size, Compute compute);
  ~ComputedBytes();
  ComputedBytes(const ComputedBytes&) = delete;
  ComputedBytes& operator=(const ComputedBytes&) = delete;

  // Always the same addresses. Reading them while nobody holds them is an error that the processor tells.
  Bytes bytes() const { return {data_, size_}; }
  // The bytes stay in memory as long as what this returns lives. The first to hold them computes them; others wait.
  // Throws kIo when there is no memory, and what `compute` throws: then they are not held.
  std::shared_ptr<const void> Hold() const;

 private:
  ComputedBytes() = default;
  void Fill() const;
  void Empty() const;

  std::string name_;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  Compute compute_;
  mutable std::mutex mutex_;
  mutable int holders_ = 0;  // under mutex_
};

}  // namespace apr
