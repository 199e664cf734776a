// Byte-pair merging: of all neighbouring pairs that have a merge, the one of lowest rank is merged,
// the leftmost first, until none is left. Short words scan an array, long ones use a heap, and
// words of many thousand symbols go through overlapping windows, so that time stays linear and
// memory bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/large_pages.h"

namespace apr {

inline constexpr uint32_t kNoRank = 0xFFFFFFFF;

struct Merge {
  uint32_t rank = kNoRank;  // lower merges first
  uint32_t id = 0;          // what the pair becomes
};

// (left id, right id) -> merge.
class MergeTable {
 public:
  void Reserve(size_t merges);
  // The later of two merges of one pair counts.
  void Insert(uint32_t left, uint32_t right, Merge merge);

  Merge Find(uint32_t left, uint32_t right) const {
    const uint64_t key = static_cast<uint64_t>(left) << 32 | right;
    const uint64_t hash = Hash(key);
    // Most pairs have no merge: a small filter tells nearly all of them without touching the table.
    if (!(filter_[hash >> kFilterShift] >> (hash >> (kFilterShift - 6) & 63) & 1)) return {};
    uint64_t at = hash >> shift_;
    while (true) {
      const Slot& slot = slots_[at];
      if (slot.key == key) return slot.merge;
      if (slot.key == kEmpty) return {};
      at = (at + 1) & mask_;
    }
  }

  size_t size() const { return size_; }
  // visit(left, right, merge) for every merge, in no order.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.key != kEmpty)
        visit(static_cast<uint32_t>(slot.key >> 32), static_cast<uint32_t>(slot.key), slot.merge);
    }
  }
  void Prefetch(uint32_t left, uint32_t right) const {
    __builtin_prefetch(&slots_[Hash(static_cast<uint64_t>(left) << 32 | right) >> shift_]);
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static constexpr int kFilterShift = 64 - 15;  // 2^15 words of 64 bits
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static uint64_t Hash(uint64_t key) { return (key ^ key >> 29) * 0x9E3779B97F4A7C15u; }
  void Grow(size_t capacity);

  std::vector<uint64_t> filter_ = std::vector<uint64_t>(size_t{1} << (64 - kFilterShift));
  LargeVector<Slot> slots_ = LargeVector<Slot>(2);
  uint64_t mask_ = 1;
  int shift_ = 63;
  size_t size_ = 0;
};

// A word on its way: symbol i has id ids[i] and begins at byte begins[i]; it ends where the next
// one begins.
struct Symbols {
  std::vector<uint32_t> ids;
  std::vector<uint32_t> begins;

  void clear() {
    ids.clear();
    begins.clear();
  }
  void push_back(uint32_t id, uint32_t begin) {
    ids.push_back(id);
    begins.push_back(begin);
  }
  size_t size() const { return ids.size(); }
};

// How a merger asks for the merge of two neighbouring symbols.
class PairSource {
 public:
  virtual ~PairSource() = default;
  // `left` spans bytes [begin, middle) of the word, `right` [middle, end).
  virtual Merge Pair(uint32_t left, uint32_t right, uint32_t begin, uint32_t middle,
                     uint32_t end) = 0;
};

// Working memory of a merger, kept between words.
struct MergeScratch {
  std::vector<Merge> merges;
  std::vector<uint32_t> next, previous;
  struct Candidate {
    uint64_t order;  // rank, then position
    uint32_t id;
  };
  std::vector<Candidate> heap;
  Symbols window, spliced;
};

// Merges `symbols` in place; the last symbol ends at byte `end`.
void MergeAll(const MergeTable& table, Symbols& symbols, uint32_t end, MergeScratch& scratch);
// The same for up to kShortMerge ids in a row, in place; the number of those that are left.
inline constexpr size_t kShortMerge = 32;
size_t MergeShort(const MergeTable& table, uint32_t* ids, size_t count);
void MergeAll(PairSource& source, Symbols& symbols, uint32_t end, MergeScratch& scratch);

// The same by overlapping windows of `window` symbols. Right only for a table in which every merge
// ranks after all merges that make its parts: then a sequence of tokens is the result exactly if
// each two neighbours are the result of their own bytes, so two windows that share a token can be
// joined there. Falls back to MergeAll where two windows share none.
void MergeInWindows(const MergeTable& table, Symbols& symbols, uint32_t end, size_t window,
                    MergeScratch& scratch);

}  // namespace apr
