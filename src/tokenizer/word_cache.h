// What short words became, so that a word met again costs one look: two set-associative tables
// (short words of few tokens, longer ones). Holds no more than its fixed size; a lost entry is
// computed anew.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/large_pages.h"
#include "tokenizer/vocabulary.h"

namespace apr {

class WordCache {
 public:
  static constexpr size_t kShortBytes = 15;
  static constexpr size_t kShortIds = 3;
  static constexpr size_t kLongBytes = 31;
  static constexpr size_t kLongIds = 7;

  struct Short {
    uint64_t low = 0, high = 0;  // the word's bytes, zero-filled, and its length in the last byte
    int32_t ids[kShortIds] = {};
    uint32_t count = 0;  // 0: empty
  };
  struct Long {
    uint64_t key[4] = {};
    int32_t ids[kLongIds] = {};
    uint32_t count = 0;
  };
  static_assert(sizeof(Short) == 32 && sizeof(Long) == 64);

  struct ShortKey {
    uint64_t low, high;
    uint64_t hash;
  };
  // Reads at most up to `limit`; size is in [1, kShortBytes].
  static ShortKey MakeShortKey(const char* p, size_t size, const char* limit) {
    uint64_t low;
    uint64_t high = 0;
    if (limit - p >= 16) {
      low = LoadLe<uint64_t>(p);
      if (size >= 8) {
        high = LoadLe<uint64_t>(p + 8) & ((uint64_t{1} << 8 * (size - 8)) - 1);
      } else {
        low &= (uint64_t{1} << 8 * size) - 1;
      }
    } else {
      char buffer[16] = {};
      std::memcpy(buffer, p, size);
      low = LoadLe<uint64_t>(buffer);
      high = LoadLe<uint64_t>(buffer + 8);
    }
    high |= static_cast<uint64_t>(size) << 56;
    return {low, high, Hash(low, high)};
  }
  // The entry for `key`, or nullptr.
  const Short* Find(const ShortKey& key) const {
    const Short* set = &short_[(key.hash >> (64 - kShortSetBits)) * 2];
    if (set[0].low == key.low && set[0].high == key.high) return set;
    if (set[1].low == key.low && set[1].high == key.high) return set + 1;
    return nullptr;
  }
  void Insert(const ShortKey& key, const int32_t* ids, size_t count) {
    Short* set = &short_[(key.hash >> (64 - kShortSetBits)) * 2];
    set[1] = set[0];  // the newer one stands first
    set[0].low = key.low;
    set[0].high = key.high;
    set[0].count = static_cast<uint32_t>(count);
    std::memcpy(set[0].ids, ids, count * sizeof *ids);
  }

  struct LongKey {
    uint64_t key[4];
    uint64_t hash;
  };
  struct Key {
    size_t size = 0;
    ShortKey in_short{};
    LongKey in_long{};
  };
  struct Hit {
    const int32_t* ids = nullptr;  // nullptr: not there; at least kShortIds can be read
    uint32_t count = 0;
    bool is_long = false;
  };
  static LongKey MakeLongKey(const char* p, size_t size) {
    char buffer[32] = {};
    std::memcpy(buffer, p, size);
    buffer[31] = static_cast<char>(size);
    LongKey out;
    std::memcpy(out.key, buffer, 32);
    out.hash = Hash(Hash(out.key[0], out.key[1]), Hash(out.key[2], out.key[3]));
    return out;
  }
  const Long* Find(const LongKey& key) const {
    const Long& entry = long_[key.hash >> (64 - kLongBits)];
    return entry.count != 0 && std::memcmp(entry.key, key.key, 32) == 0 ? &entry : nullptr;
  }
  void Insert(const LongKey& key, const int32_t* ids, size_t count) {
    Long& entry = long_[key.hash >> (64 - kLongBits)];
    std::memcpy(entry.key, key.key, 32);
    entry.count = static_cast<uint32_t>(count);
    std::memcpy(entry.ids, ids, count * sizeof *ids);
  }

  // The key of the `size` bytes at p, for Look and Insert; what Look will read is asked for. Reads at most up to `limit`.
  void Ask(const char* p, size_t size, const char* limit, Key& key) const {
    key.size = size;
    if (size <= kShortBytes) {
      key.in_short = MakeShortKey(p, size, limit);
      __builtin_prefetch(&short_[(key.in_short.hash >> (64 - kShortSetBits)) * 2]);
    } else if (size <= kLongBytes) {
      key.in_long = MakeLongKey(p, size);
      __builtin_prefetch(&long_[key.in_long.hash >> (64 - kLongBits)]);
    }
  }
  // What the bytes at p became, of which Ask made the key.
  Hit Look(const char* p, Key& key) const {
    if (key.size > kLongBytes) return {};
    if (key.size <= kShortBytes) {
      if (const Short* hit = Find(key.in_short)) return {hit->ids, hit->count, false};
      key.in_long = MakeLongKey(p, key.size);
    }
    if (const Long* hit = Find(key.in_long)) return {hit->ids, hit->count, true};
    return {};
  }
  Hit Look(const char* p, size_t size, const char* limit, Key& key) const {
    Ask(p, size, limit, key);
    return Look(p, key);
  }
  void Insert(const Key& key, const int32_t* ids, size_t count) {
    if (count == 0) return;
    if (key.size <= kShortBytes && count <= kShortIds) {
      Insert(key.in_short, ids, count);
    } else if (key.size <= kLongBytes && count <= kLongIds) {
      Insert(key.in_long, ids, count);
    }
  }

 private:
  static constexpr int kShortSetBits = 15;
  static constexpr int kLongBits = 13;

  static uint64_t Hash(uint64_t a, uint64_t b) {
    return MixHash(a ^ 0x9E3779B97F4A7C15u, b ^ 0xC2B2AE3D27D4EB4Fu) * 0x9E3779B97F4A7C15u;
  }

  LargeVector<Short> short_ = LargeVector<Short>(size_t{2} << kShortSetBits);
  std::vector<Long> long_ = std::vector<Long>(size_t{1} << kLongBits);
};

// Appends the ids of the pieces of `text` that end at `ends`, from the cache where it has them,
// else by `encode(piece)`, which returns the ids as a contiguous range.
template <typename Encode>
void EncodeThroughCache(WordCache& cache, std::string_view text, const std::vector<uint32_t>& ends,
                        std::vector<int32_t>& ids, Encode&& encode) {
  const char* const limit = text.data() + text.size();
  size_t used = ids.size();
  // Keys of some words ahead, so that the misses overlap.
  constexpr size_t kAhead = 8;
  WordCache::Key keys[2 * kAhead];
  const auto ask = [&](size_t i) {
    if (i >= ends.size()) return;
    const uint32_t begin = i > 0 ? ends[i - 1] : 0;
    cache.Ask(text.data() + begin, ends[i] - begin, limit, keys[i % (2 * kAhead)]);
  };
  for (size_t i = 0; i < kAhead; ++i) ask(i);
  const auto grow = [&](size_t more) {
    if (used + more > ids.size())
      ids.resize(std::max(used + more, ids.size() + ids.size() / 2 + 1024));
  };
  grow(text.size() / 5);
  uint32_t begin = 0;
  for (size_t word = 0; word < ends.size(); ++word) {
    const char* const p = text.data() + begin;
    const size_t size = ends[word] - begin;
    begin = ends[word];
    grow(WordCache::kLongIds);
    WordCache::Key& key = keys[word % (2 * kAhead)];
    ask(word + kAhead);
    if (const WordCache::Hit hit = cache.Look(p, key); hit.ids != nullptr) {
      // As many as an entry holds: a copy of fixed size.
      std::memcpy(&ids[used], hit.ids, sizeof(int32_t) * (hit.is_long ? WordCache::kLongIds : WordCache::kShortIds));
      used += hit.count;
      continue;
    }
    const auto& made = encode(std::string_view(p, size));
    const size_t count = made.size();
    grow(count + WordCache::kLongIds);
    for (size_t i = 0; i < count; ++i) ids[used + i] = static_cast<int32_t>(made[i]);
    used += count;
    cache.Insert(key, &ids[used - count], count);
  }
  ids.resize(used);
}

}  // namespace apr
