// A trie over bytes: which of a set of strings a text begins with. Edges live in one hash table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace apr {

class ByteTrie {
 public:
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  void Reserve(size_t bytes);
  // The first value inserted for a string stays. Empty strings are ignored.
  void Insert(std::string_view key, uint32_t value);
  bool empty() const { return values_.size() == 1; }

  // Walking: node 0 is the root; kNone where there is no edge.
  uint32_t Step(uint32_t node, unsigned char byte) const;
  uint32_t Value(uint32_t node) const { return values_[node]; }  // kNone: no string ends here

  struct Match {
    size_t length = 0;  // 0: none
    uint32_t value = kNone;
  };
  Match Longest(std::string_view text) const;
  // Whether some string begins with this byte.
  bool Begins(unsigned char byte) const { return root_[byte] != kNone; }

 private:
  struct Edge {
    uint64_t key = ~uint64_t{0};  // node << 8 | byte
    uint32_t child = kNone;
  };
  static uint64_t Hash(uint64_t key) { return key * 0x9E3779B97F4A7C15u; }
  void Grow(size_t capacity);
  void AddEdge(uint64_t key, uint32_t child);

  std::vector<uint32_t> root_ = std::vector<uint32_t>(256, kNone);
  std::vector<uint32_t> values_ = {kNone};
  std::vector<Edge> edges_ = std::vector<Edge>(2);
  size_t edge_count_ = 0;
  int shift_ = 63;
};

}  // namespace apr
