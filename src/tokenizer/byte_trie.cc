// See byte_trie.h.
#include "tokenizer/byte_trie.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace apr {

void ByteTrie::Reserve(size_t bytes) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, bytes));
  if (capacity > edges_.size()) Grow(capacity);
}

void ByteTrie::Grow(size_t capacity) {
  const std::vector<Edge> old = std::exchange(edges_, std::vector<Edge>(capacity));
  shift_ = 64 - std::countr_zero(capacity);
  for (const Edge& edge : old) {
    if (edge.child != kNone) AddEdge(edge.key, edge.child);
  }
}

void ByteTrie::AddEdge(uint64_t key, uint32_t child) {
  uint64_t at = Hash(key) >> shift_;
  while (edges_[at].child != kNone) at = (at + 1) & (edges_.size() - 1);
  edges_[at] = {key, child};
}

uint32_t ByteTrie::Step(uint32_t node, unsigned char byte) const {
  if (node == 0) return root_[byte];
  const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
  uint64_t at = Hash(key) >> shift_;
  while (edges_[at].child != kNone) {
    if (edges_[at].key == key) return edges_[at].child;
    at = (at + 1) & (edges_.size() - 1);
  }
  return kNone;
}

void ByteTrie::Insert(std::string_view key, uint32_t value) {
  if (key.empty()) return;
  uint32_t node = 0;
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t child = Step(node, byte);
    if (child == kNone) {
      child = static_cast<uint32_t>(values_.size());
      values_.push_back(kNone);
      if (node == 0) {
        root_[byte] = child;
      } else {
        if (2 * (edge_count_ + 1) > edges_.size()) Grow(2 * edges_.size());
        AddEdge(static_cast<uint64_t>(node) << 8 | byte, child);
        ++edge_count_;
      }
    }
    node = child;
  }
  if (values_[node] == kNone) values_[node] = value;
}

ByteTrie::Match ByteTrie::Longest(std::string_view text) const {
  Match best;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node = Step(node, static_cast<unsigned char>(text[i]));
    if (node == kNone) break;
    if (values_[node] != kNone) best = {i + 1, values_[node]};
  }
  return best;
}

}  // namespace apr
