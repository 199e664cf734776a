// Byte-pair merging: of all neighbouring pairs that have a merge, the one of lowest rank is merged, the leftmost first,
// until none is left. Short words scan an array, longer ones keep their pairs in lists by rank, and words of many
// thousand symbols go through overlapping windows, so that time stays linear and working memory small.
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
  uint32_t ranks() const { return ranks_; }  // highest rank + 1
  // visit(left, right, merge) for every merge, in no order.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.key != kEmpty)
        visit(static_cast<uint32_t>(slot.key >> 32), static_cast<uint32_t>(slot.key), slot.merge);
    }
  }
  // Asks for what Find will read.
  void Ask(uint32_t left, uint32_t right) const {
    const uint64_t hash = Hash(static_cast<uint64_t>(left) << 32 | right);
    const bool maybe = filter_[hash >> kFilterShift] >> (hash >> (kFilterShift - 6) & 63) & 1;
    __builtin_prefetch(&slots_[maybe ? hash >> shift_ : 0]);
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
  uint32_t ranks_ = 0;
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
  virtual uint32_t ranks() const = 0;  // above every rank
};

// Reads the symbols of a word from any of them on.
class SymbolSource {
 public:
  virtual ~SymbolSource() = default;
  // Appends up to `count` symbols, the first of them the one that begins at byte `begin`; returns where the next one
  // begins, or the word's size.
  virtual uint32_t Read(uint32_t begin, size_t count, Symbols& symbols) const = 0;
};

// Places by rank: a circular list for each rank, and bits that say which are not empty. Empty between words.
class RankQueue {
 public:
  void Prepare(uint32_t ranks, size_t places);
  // A place stands in one list at a time.
  void Add(uint32_t rank, uint32_t place);
  void Remove(uint32_t rank, uint32_t place);
  // The first place of the lowest rank; kNone if there is none.
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  uint32_t First();

 private:
  void Sort(uint32_t rank);

  std::vector<uint32_t> heads_;           // of each rank: its first place, or kNone
  std::vector<uint64_t> used_, groups_;   // ranks that have places; words of used_ that are not 0
  std::vector<uint64_t> unsorted_;        // ranks whose list is not in order
  std::vector<uint32_t> next_, previous_; // of each place
  std::vector<uint32_t> order_;
};

// Working memory of a merger, kept between words.
struct MergeScratch {
  std::vector<Merge> merges;
  std::vector<uint32_t> next, previous;
  RankQueue queue;
  Symbols part, whole;
};

// Merges `symbols` in place; the last symbol ends at byte `end`.
void MergeAll(const MergeTable& table, Symbols& symbols, uint32_t end, MergeScratch& scratch);
void MergeAll(PairSource& pairs, Symbols& symbols, uint32_t end, MergeScratch& scratch);
// The same for up to kShortMerge ids in a row, in place; the number of those that are left.
inline constexpr size_t kShortMerge = 32;
size_t MergeShort(const MergeTable& table, uint32_t* ids, size_t count);

// The same for a word of `size` bytes, `window` symbols or a few times as many at a time; what it becomes in `out`.
// Why that is right, whatever the merges: let tokens cover the word, each two neighbours of them being what merging
// makes of their own bytes alone. Then merging the whole word never joins over a border of theirs. For take its first
// such step, and the two tokens at that border: before it, the steps within their bytes were those that merging these
// bytes alone makes, in the same order, as the first pair of the whole word is the first of any part it lies in; so
// merging them alone would take this step, too, which it does not. The other way round, neighbours in a result are
// what merging makes of their own bytes, by the same argument. So where the results of two windows share a token, one
// up to there and the other from there on is the result for both.
inline constexpr size_t kMergeWindow = 4096;
void MergeInWindows(const MergeTable& table, const SymbolSource& symbols, uint32_t size, size_t window, Symbols& out,
                    MergeScratch& scratch);
void MergeInWindows(PairSource& pairs, const SymbolSource& symbols, uint32_t size, size_t window, Symbols& out,
                    MergeScratch& scratch);
// The same for symbols that are there, in place.
void MergeInWindows(const MergeTable& table, Symbols& symbols, size_t window, MergeScratch& scratch);

}  // namespace apr
