// A set of token ids: which ones a constrained sampler may draw.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace apr {

class TokenMask {
 public:
  TokenMask() = default;
  explicit TokenMask(int64_t size) : size_(size), words_(static_cast<size_t>((size + 63) / 64)) {}

  int64_t size() const { return size_; }
  bool Contains(int64_t id) const {
    return id >= 0 && id < size_ && ((words_[static_cast<size_t>(id >> 6)] >> (id & 63)) & 1) != 0;
  }
  void Add(int64_t id) { words_[static_cast<size_t>(id >> 6)] |= uint64_t{1} << (id & 63); }
  void Clear() { std::ranges::fill(words_, 0); }
  // Both of the same size.
  void AddAll(const TokenMask& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  int64_t count() const {
    int64_t total = 0;
    for (const uint64_t word : words_) total += std::popcount(word);
    return total;
  }
  bool operator==(const TokenMask&) const = default;

 private:
  int64_t size_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace apr
