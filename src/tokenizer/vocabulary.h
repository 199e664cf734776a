// The pieces of a vocabulary: id to spelling and back. One arena of text and one open-addressing
// table, so that 150,000 entries load in a few milliseconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/large_pages.h"

namespace apr {

// Both halves of a 64 x 64 bit product, folded: the mixing step of the hashes of this folder.
inline uint64_t MixHash(uint64_t a, uint64_t b) {
  __extension__ typedef unsigned __int128 Product;
  const Product product = static_cast<Product>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// A hash of short strings, the same on every run.
uint64_t HashBytes(const char* data, size_t size);
inline uint64_t HashBytes(std::string_view text) { return HashBytes(text.data(), text.size()); }

class Vocabulary {
 public:
  // `entries` and `bytes` are hints from a file: what is reserved is bounded by the caller.
  void Reserve(size_t entries, size_t bytes);

  // Gives `id` the spelling `piece`. Throws kInvalidFormat (key "vocab") for an id far beyond the
  // number of entries (ids must be dense enough to index an array) or an id that has another
  // spelling already.
  void Add(uint32_t id, std::string_view piece);

  // Builds the index; of several ids with one spelling, the one added last is found (first if
  // `first_wins`). Call once, before Find.
  void BuildIndex(bool first_wins);

  std::optional<uint32_t> Find(std::string_view piece) const {
    return Find(piece, HashBytes(piece));
  }
  std::optional<uint32_t> Find(std::string_view piece, uint64_t hash) const;
  // Brings what Find will touch first into the cache, for callers that look up many.
  void PrefetchSlot(uint64_t hash) const { __builtin_prefetch(&slots_[hash & mask_]); }
  // Once that is there: what a comparison will read.
  void PrefetchPiece(uint64_t hash) const {
    const uint32_t entry = slots_[hash & mask_].id_plus_one;
    if (entry > 0) __builtin_prefetch(arena_.data() + entries_[entry - 1].offset);
  }

  bool Has(uint32_t id) const { return id < entries_.size() && entries_[id].offset != kAbsent; }
  // Empty for an id without a piece.
  std::string_view Piece(uint32_t id) const {
    if (!Has(id)) return {};
    return {arena_.data() + entries_[id].offset, entries_[id].size};
  }

  uint32_t size() const { return static_cast<uint32_t>(entries_.size()); }  // highest id + 1
  size_t count() const { return count_; }                                   // entries
  // All pieces behind one another, as added.
  std::string_view text() const { return arena_; }
  bool has_duplicates() const { return duplicates_; }
  size_t longest() const { return longest_; }  // bytes of the longest piece

 private:
  static constexpr uint32_t kAbsent = 0xFFFFFFFF;
  struct Entry {
    uint32_t offset = kAbsent;
    uint32_t size = 0;
  };
  // Short pieces are told by their slot alone; for longer ones the text must be compared too.
  static constexpr size_t kInline = 8;
  struct Slot {
    uint64_t head = 0;  // the bytes of a piece of up to kInline, else its hash
    uint32_t size = 0;
    uint32_t id_plus_one = 0;
  };
  static uint64_t Head(std::string_view piece, uint64_t hash);
  bool Holds(const Slot& slot, uint64_t head, std::string_view piece) const {
    return slot.head == head && slot.size == piece.size() &&
           (piece.size() <= kInline || Piece(slot.id_plus_one - 1) == piece);
  }

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> order_;  // ids as added; empty: 0, 1, 2 and so on
  size_t count_ = 0;
  LargeVector<Slot> slots_;
  uint64_t mask_ = 0;
  size_t longest_ = 0;
  bool duplicates_ = false;
};

}  // namespace apr
