// See merge.h.
#include "tokenizer/merge.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace apr {
namespace {

// Up to here a scan for the lowest rank beats a heap.
constexpr size_t kScanLimit = 160;
constexpr uint32_t kEnd = 0xFFFFFFFF;

struct TablePairs {
  const MergeTable& table;
  Merge operator()(uint32_t left, uint32_t right, uint32_t, uint32_t, uint32_t) const {
    return table.Find(left, right);
  }
};

struct VirtualPairs {
  PairSource& source;
  Merge operator()(uint32_t left, uint32_t right, uint32_t begin, uint32_t middle,
                   uint32_t end) const {
    return source.Pair(left, right, begin, middle, end);
  }
};

template <typename Pairs>
void MergeByScan(const Pairs& pairs, Symbols& symbols, uint32_t end, MergeScratch& scratch) {
  size_t count = symbols.size();
  uint32_t* ids = symbols.ids.data();
  uint32_t* begins = symbols.begins.data();
  scratch.merges.resize(count);
  Merge* merges = scratch.merges.data();
  const auto end_of = [&](size_t i) { return i + 1 < count ? begins[i + 1] : end; };
  for (size_t i = 0; i + 1 < count; ++i) {
    merges[i] = pairs(ids[i], ids[i + 1], begins[i], begins[i + 1], end_of(i + 1));
  }
  while (count > 1) {
    size_t best = 0;
    uint32_t rank = merges[0].rank;
    for (size_t i = 1; i + 1 < count; ++i) {
      const bool better = merges[i].rank < rank;
      rank = better ? merges[i].rank : rank;
      best = better ? i : best;
    }
    if (rank == kNoRank) break;
    ids[best] = merges[best].id;
    const size_t moved = count - best - 2;
    std::copy_n(ids + best + 2, moved, ids + best + 1);
    std::copy_n(begins + best + 2, moved, begins + best + 1);
    if (moved > 0) std::copy_n(merges + best + 2, moved - 1, merges + best + 1);
    --count;
    if (best > 0) {
      merges[best - 1] =
          pairs(ids[best - 1], ids[best], begins[best - 1], begins[best], end_of(best));
    }
    if (best + 1 < count) {
      merges[best] =
          pairs(ids[best], ids[best + 1], begins[best], begins[best + 1], end_of(best + 1));
    }
  }
  symbols.ids.resize(count);
  symbols.begins.resize(count);
}

template <typename Pairs>
class HeapMerger {
 public:
  HeapMerger(const Pairs& pairs, Symbols& symbols, uint32_t end, MergeScratch& scratch)
      : pairs_(pairs), symbols_(symbols), end_(end), s_(scratch) {}

  void Run() {
    const size_t count = symbols_.size();
    s_.merges.assign(count, {});
    s_.next.resize(count);
    s_.previous.resize(count);
    s_.heap.clear();
    for (size_t i = 0; i < count; ++i) {
      s_.previous[i] = i == 0 ? kEnd : static_cast<uint32_t>(i - 1);
      s_.next[i] = i + 1 < count ? static_cast<uint32_t>(i + 1) : kEnd;
    }
    for (size_t i = 0; i + 1 < count; ++i) Find(static_cast<uint32_t>(i));
    std::make_heap(s_.heap.begin(), s_.heap.end(), Later);
    heapified_ = true;
    while (!s_.heap.empty()) {
      std::pop_heap(s_.heap.begin(), s_.heap.end(), Later);
      const auto candidate = s_.heap.back();
      s_.heap.pop_back();
      const auto at = static_cast<uint32_t>(candidate.order);
      // An entry is stale when its pair has since become another.
      if (s_.merges[at].rank != static_cast<uint32_t>(candidate.order >> 32)) continue;
      Apply(at);
    }
    Compact();
  }

 private:
  static bool Later(const MergeScratch::Candidate& a, const MergeScratch::Candidate& b) {
    return a.order > b.order;
  }

  void Find(uint32_t at) {
    const uint32_t right = s_.next[at];
    if (right == kEnd) {
      s_.merges[at] = {};
      return;
    }
    const uint32_t after = s_.next[right];
    const Merge merge =
        pairs_(symbols_.ids[at], symbols_.ids[right], symbols_.begins[at], symbols_.begins[right],
               after == kEnd ? end_ : symbols_.begins[after]);
    s_.merges[at] = merge;
    if (merge.rank == kNoRank) return;
    s_.heap.push_back({static_cast<uint64_t>(merge.rank) << 32 | at, merge.id});
    if (heapified_) std::push_heap(s_.heap.begin(), s_.heap.end(), Later);
  }

  void Apply(uint32_t at) {
    const uint32_t right = s_.next[at];
    symbols_.ids[at] = s_.merges[at].id;
    s_.merges[right] = {};
    s_.next[at] = s_.next[right];
    if (s_.next[at] != kEnd) s_.previous[s_.next[at]] = at;
    Find(at);
    if (s_.previous[at] != kEnd) Find(s_.previous[at]);
  }

  void Compact() {
    size_t out = 0;
    for (uint32_t i = 0; i != kEnd; i = s_.next[i]) {
      symbols_.ids[out] = symbols_.ids[i];
      symbols_.begins[out] = symbols_.begins[i];
      ++out;
    }
    symbols_.ids.resize(out);
    symbols_.begins.resize(out);
  }

  const Pairs& pairs_;
  Symbols& symbols_;
  uint32_t end_;
  MergeScratch& s_;
  bool heapified_ = false;
};

template <typename Pairs>
void MergeWith(const Pairs& pairs, Symbols& symbols, uint32_t end, MergeScratch& scratch) {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kScanLimit) {
    MergeByScan(pairs, symbols, end, scratch);
  } else {
    HeapMerger<Pairs>(pairs, symbols, end, scratch).Run();
  }
}

}  // namespace

void MergeTable::Reserve(size_t merges) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, merges + merges / 2));
  if (capacity > slots_.size()) Grow(capacity);
}

void MergeTable::Grow(size_t capacity) {
  LargeVector<Slot> old = std::exchange(slots_, LargeVector<Slot>(capacity));
  mask_ = capacity - 1;
  shift_ = 64 - std::countr_zero(capacity);
  size_ = 0;
  for (const Slot& slot : old) {
    if (slot.key != kEmpty) {
      Insert(static_cast<uint32_t>(slot.key >> 32), static_cast<uint32_t>(slot.key), slot.merge);
    }
  }
}

void MergeTable::Insert(uint32_t left, uint32_t right, Merge merge) {
  if (4 * (size_ + 1) > 3 * slots_.size()) Grow(2 * slots_.size());
  const uint64_t key = static_cast<uint64_t>(left) << 32 | right;
  const uint64_t hash = Hash(key);
  filter_[hash >> kFilterShift] |= uint64_t{1} << (hash >> (kFilterShift - 6) & 63);
  uint64_t at = hash >> shift_;
  while (slots_[at].key != kEmpty && slots_[at].key != key) at = (at + 1) & mask_;
  if (slots_[at].key == kEmpty) ++size_;
  slots_[at] = {key, merge};
}

void MergeAll(const MergeTable& table, Symbols& symbols, uint32_t end, MergeScratch& scratch) {
  MergeWith(TablePairs{table}, symbols, end, scratch);
}

size_t MergeShort(const MergeTable& table, uint32_t* ids, size_t count) {
  uint64_t merges[kShortMerge];  // rank and result, so that the least is the one to do
  const auto find = [&](size_t i) {
    const Merge merge = table.Find(ids[i], ids[i + 1]);
    merges[i] = uint64_t{merge.rank} << 32 | merge.id;
  };
  for (size_t i = 0; i + 1 < count; ++i) find(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) best = merges[i] >> 32 < merges[best] >> 32 ? i : best;
    if (merges[best] >> 32 == kNoRank) break;
    ids[best] = static_cast<uint32_t>(merges[best]);
    --count;
    for (size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      merges[i - 1] = merges[i];
    }
    if (best > 0) find(best - 1);
    if (best + 1 < count) find(best);
  }
  return count;
}

void MergeAll(PairSource& source, Symbols& symbols, uint32_t end, MergeScratch& scratch) {
  MergeWith(VirtualPairs{source}, symbols, end, scratch);
}

void MergeInWindows(const MergeTable& table, Symbols& symbols, uint32_t end, size_t window,
                    MergeScratch& scratch) {
  const size_t count = symbols.size();
  if (count <= window) return MergeAll(table, symbols, end, scratch);
  Symbols& done = scratch.spliced;  // the result for bytes up to where the last window ended
  Symbols& part = scratch.window;
  done.clear();
  const auto end_of = [&](size_t i) { return i < count ? symbols.begins[i] : end; };
  // Symbol indices: windows begin at a token border of `done` about `overlap` before its end.
  const size_t overlap = window / 4;
  size_t from = 0;
  size_t to = 0;
  while (to < count) {
    size_t keep = 0;  // tokens of `done` that end at or before symbol `from`
    if (!done.ids.empty()) {
      const size_t target = to > overlap ? to - overlap : 0;
      keep = static_cast<size_t>(
                 std::upper_bound(done.begins.begin(), done.begins.end(), symbols.begins[target]) -
                 done.begins.begin()) -
             1;
      from = static_cast<size_t>(
          std::lower_bound(symbols.begins.begin(), symbols.begins.end(), done.begins[keep]) -
          symbols.begins.begin());
    }
    const size_t reached = to;
    to = std::min(count, from + window);
    if (to <= reached) return MergeAll(table, symbols, end, scratch);  // one token fills the window
    part.ids.assign(symbols.ids.begin() + from, symbols.ids.begin() + to);
    part.begins.assign(symbols.begins.begin() + from, symbols.begins.begin() + to);
    MergeAll(table, part, end_of(to), scratch);
    // The first token that both have: same begin, same id.
    size_t i = keep;
    size_t j = 0;
    bool joined = done.ids.empty();
    while (!joined && i < done.size() && j < part.size()) {
      if (done.begins[i] < part.begins[j]) {
        ++i;
      } else if (done.begins[i] > part.begins[j]) {
        ++j;
      } else if (done.ids[i] != part.ids[j]) {
        ++i, ++j;
      } else {
        joined = true;
      }
    }
    if (!joined) return MergeAll(table, symbols, end, scratch);
    done.ids.resize(i);
    done.begins.resize(i);
    done.ids.insert(done.ids.end(), part.ids.begin() + j, part.ids.end());
    done.begins.insert(done.begins.end(), part.begins.begin() + j, part.begins.end());
  }
  std::swap(symbols.ids, done.ids);
  std::swap(symbols.begins, done.begins);
}

}  // namespace apr
