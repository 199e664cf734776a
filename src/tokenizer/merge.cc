// See merge.h.
#include "tokenizer/merge.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace apr {
namespace {

// Up to here a scan for the lowest rank beats lists by rank.
constexpr size_t kScanLimit = 160;
constexpr uint32_t kEnd = 0xFFFFFFFF;

struct TablePairs {
  const MergeTable& table;
  uint32_t ranks() const { return table.ranks(); }
  Merge operator()(uint32_t left, uint32_t right, uint32_t, uint32_t, uint32_t) const {
    return table.Find(left, right);
  }
};

struct VirtualPairs {
  PairSource& source;
  uint32_t ranks() const { return source.ranks(); }
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
class ListMerger {
 public:
  ListMerger(const Pairs& pairs, Symbols& symbols, uint32_t end, MergeScratch& scratch)
      : pairs_(pairs), symbols_(symbols), end_(end), s_(scratch) {}

  void Run() {
    const size_t count = symbols_.size();
    s_.merges.assign(count, {});
    s_.next.resize(count);
    s_.previous.resize(count);
    s_.queue.Prepare(pairs_.ranks(), count);
    for (size_t i = 0; i < count; ++i) {
      s_.previous[i] = i == 0 ? kEnd : static_cast<uint32_t>(i - 1);
      s_.next[i] = i + 1 < count ? static_cast<uint32_t>(i + 1) : kEnd;
    }
    for (size_t i = 0; i + 1 < count; ++i) Find(static_cast<uint32_t>(i));
    for (uint32_t at = s_.queue.First(); at != RankQueue::kNone; at = s_.queue.First()) Apply(at);
    Compact();
  }

 private:
  // Looks for the merge of the symbol at `at` and the next one.
  void Find(uint32_t at) {
    const uint32_t right = s_.next[at];
    if (right == kEnd) return;
    const uint32_t after = s_.next[right];
    s_.merges[at] = pairs_(symbols_.ids[at], symbols_.ids[right], symbols_.begins[at], symbols_.begins[right],
                           after == kEnd ? end_ : symbols_.begins[after]);
    if (s_.merges[at].rank != kNoRank) s_.queue.Add(s_.merges[at].rank, at);
  }

  void Forget(uint32_t at) {
    if (s_.merges[at].rank != kNoRank) s_.queue.Remove(s_.merges[at].rank, at);
    s_.merges[at] = {};
  }

  void Apply(uint32_t at) {
    const uint32_t right = s_.next[at];
    const uint32_t before = s_.previous[at];
    symbols_.ids[at] = s_.merges[at].id;
    Forget(at);
    Forget(right);
    s_.next[at] = s_.next[right];
    if (s_.next[at] != kEnd) s_.previous[s_.next[at]] = at;
    if (before != kEnd) {
      Forget(before);
      Find(before);
    }
    Find(at);
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
};

template <typename Pairs>
void MergeWith(const Pairs& pairs, Symbols& symbols, uint32_t end, MergeScratch& scratch) {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kScanLimit) {
    MergeByScan(pairs, symbols, end, scratch);
  } else {
    ListMerger<Pairs>(pairs, symbols, end, scratch).Run();
  }
}

// The first token, from `i` and from 0 on, that both have; {a.size(), b.size()} if there is none.
std::pair<size_t, size_t> FirstShared(const Symbols& a, size_t i, const Symbols& b) {
  size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (a.begins[i] == b.begins[j]) {
      if (a.ids[i] == b.ids[j]) return {i, j};
      ++i, ++j;
    } else if (a.begins[i] < b.begins[j]) {
      ++i;
    } else {
      ++j;
    }
  }
  return {a.size(), b.size()};
}

template <typename Pairs>
void MergeParts(const Pairs& pairs, const SymbolSource& source, uint32_t size, size_t window, Symbols& done,
                MergeScratch& scratch) {
  Symbols& part = scratch.part;
  size_t length = window;  // symbols of the next part
  done.clear();
  part.clear();
  uint32_t to = source.Read(0, length, done);  // `done` is the result for the bytes up to here
  MergeWith(pairs, done, to, scratch);
  while (to < size) {
    // The next part begins at a border of `done`.
    const size_t overlap = length / 8;
    const auto it = std::upper_bound(done.begins.begin(), done.begins.end(), to - std::min<size_t>(to, overlap));
    const size_t keep = static_cast<size_t>(std::max<std::ptrdiff_t>(it - done.begins.begin(), 1)) - 1;
    part.clear();
    const uint32_t next = source.Read(done.size() == 0 ? 0 : done.begins[keep], length, part);
    if (next > to) MergeWith(pairs, part, next, scratch);
    const auto [i, j] = next <= to ? std::pair(done.size(), part.size())
                        : keep == 0 ? std::pair(size_t{0}, size_t{0})  // all of `done` is in the part
                                    : FirstShared(done, keep, part);
    if (j == part.size()) {  // it does not reach far enough, to either side
      length *= 4;
      continue;
    }
    done.ids.resize(i);
    done.begins.resize(i);
    done.ids.insert(done.ids.end(), part.ids.begin() + static_cast<std::ptrdiff_t>(j), part.ids.end());
    done.begins.insert(done.begins.end(), part.begins.begin() + static_cast<std::ptrdiff_t>(j), part.begins.end());
    to = next;
    length = std::max(window, length / 2);
  }
}

// Symbols that are there; their indices stand for bytes.
class StoredSymbols final : public SymbolSource {
 public:
  explicit StoredSymbols(const std::vector<uint32_t>& ids) : ids_(ids) {}
  uint32_t Read(uint32_t begin, size_t count, Symbols& symbols) const override {
    const auto end = static_cast<uint32_t>(std::min<size_t>(ids_.size(), begin + count));
    for (uint32_t i = begin; i < end; ++i) symbols.push_back(ids_[i], i);
    return end;
  }

 private:
  const std::vector<uint32_t>& ids_;
};

}  // namespace

void RankQueue::Prepare(uint32_t ranks, size_t places) {
  if (heads_.size() < ranks) {
    heads_.resize(ranks, kNone);
    used_.resize(ranks / 64 + 1);
    unsorted_.resize(ranks / 64 + 1);
    groups_.resize(ranks / 4096 + 1);
  }
  next_.resize(places);
  previous_.resize(places);
}

void RankQueue::Add(uint32_t rank, uint32_t place) {
  const uint32_t head = heads_[rank];
  if (head == kNone) {
    heads_[rank] = next_[place] = previous_[place] = place;
    used_[rank / 64] |= uint64_t{1} << rank % 64;
    groups_[rank / 4096] |= uint64_t{1} << rank / 64 % 64;
    return;
  }
  const uint32_t tail = previous_[head];
  next_[tail] = previous_[head] = place;
  next_[place] = head;
  previous_[place] = tail;
  if (place < head) {
    heads_[rank] = place;
  } else if (place < tail) {
    unsorted_[rank / 64] |= uint64_t{1} << rank % 64;
  }
}

void RankQueue::Remove(uint32_t rank, uint32_t place) {
  const uint32_t after = next_[place];
  if (after != place) {
    next_[previous_[place]] = after;
    previous_[after] = previous_[place];
    if (heads_[rank] == place) heads_[rank] = after;
    return;
  }
  heads_[rank] = kNone;
  const uint64_t bit = uint64_t{1} << rank % 64;
  unsorted_[rank / 64] &= ~bit;
  used_[rank / 64] &= ~bit;
  if (used_[rank / 64] == 0) groups_[rank / 4096] &= ~(uint64_t{1} << rank / 64 % 64);
}

uint32_t RankQueue::First() {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g] == 0) continue;
    const size_t word = g * 64 + static_cast<size_t>(std::countr_zero(groups_[g]));
    const auto bit = static_cast<uint32_t>(std::countr_zero(used_[word]));
    const auto rank = static_cast<uint32_t>(word * 64 + bit);
    if (unsorted_[word] >> bit & 1) Sort(rank);
    return heads_[rank];
  }
  return kNone;
}

void RankQueue::Sort(uint32_t rank) {
  order_.clear();
  const uint32_t head = heads_[rank];
  uint32_t at = head;
  do {
    order_.push_back(at);
    at = next_[at];
  } while (at != head);
  std::sort(order_.begin(), order_.end());
  heads_[rank] = order_.front();
  for (size_t i = 0; i < order_.size(); ++i) {
    const uint32_t after = order_[(i + 1) % order_.size()];
    next_[order_[i]] = after;
    previous_[after] = order_[i];
  }
  unsorted_[rank / 64] &= ~(uint64_t{1} << rank % 64);
}

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
  ranks_ = std::max(ranks_, merge.rank + 1);
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
  for (size_t i = 0; i + 1 < count; ++i) table.Ask(ids[i], ids[i + 1]);
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
    if (best + 1 < count) table.Ask(ids[best], ids[best + 1]);
    if (best > 0) find(best - 1);
    if (best + 1 < count) find(best);
  }
  return count;
}

void MergeAll(PairSource& pairs, Symbols& symbols, uint32_t end, MergeScratch& scratch) {
  MergeWith(VirtualPairs{pairs}, symbols, end, scratch);
}

void MergeInWindows(const MergeTable& table, const SymbolSource& symbols, uint32_t size, size_t window, Symbols& out,
                    MergeScratch& scratch) {
  MergeParts(TablePairs{table}, symbols, size, window, out, scratch);
}

void MergeInWindows(PairSource& pairs, const SymbolSource& symbols, uint32_t size, size_t window, Symbols& out,
                    MergeScratch& scratch) {
  MergeParts(VirtualPairs{pairs}, symbols, size, window, out, scratch);
}

void MergeInWindows(const MergeTable& table, Symbols& symbols, size_t window, MergeScratch& scratch) {
  Symbols& merged = scratch.whole;
  MergeInWindows(table, StoredSymbols(symbols.ids), static_cast<uint32_t>(symbols.size()), window, merged, scratch);
  for (size_t i = 0; i < merged.size(); ++i) merged.begins[i] = symbols.begins[merged.begins[i]];
  std::swap(symbols, merged);
}

}  // namespace apr
