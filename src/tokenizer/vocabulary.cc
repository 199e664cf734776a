// See vocabulary.h.
#include "tokenizer/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/bytes.h"
#include "base/error.h"

namespace apr {
namespace {

// Ids may have gaps (removed tokens, reserved ranges), but an id is an index: how far beyond the
// number of entries it may lie.
constexpr uint64_t kIdSlack = uint64_t{1} << 20;

constexpr uint64_t kSeed0 = 0x9E3779B97F4A7C15u;
constexpr uint64_t kSeed1 = 0xC2B2AE3D27D4EB4Fu;

}  // namespace

uint64_t HashBytes(const char* data, size_t size) {
  uint64_t state = kSeed0 ^ size;
  while (size > 16) {
    state = MixHash(LoadLe<uint64_t>(data) ^ state, LoadLe<uint64_t>(data + 8) ^ kSeed1);
    data += 16;
    size -= 16;
  }
  uint64_t low = 0;
  uint64_t high = 0;
  if (size >= 8) {
    low = LoadLe<uint64_t>(data);
    high = LoadLe<uint64_t>(data + size - 8);
  } else if (size >= 4) {
    low = LoadLe<uint32_t>(data);
    high = LoadLe<uint32_t>(data + size - 4);
  } else if (size > 0) {
    const auto byte = [data](size_t i) { return uint64_t{static_cast<unsigned char>(data[i])}; };
    low = byte(0) | byte(size / 2) << 8 | byte(size - 1) << 16;
  }
  return MixHash(MixHash(low ^ state, high ^ kSeed1), kSeed0);
}

void Vocabulary::Reserve(size_t entries, size_t bytes) {
  arena_.reserve(bytes);
  entries_.reserve(entries);
}

void Vocabulary::Add(uint32_t id, std::string_view piece) {
  if (id > 16 * static_cast<uint64_t>(count_) + kIdSlack) {
    throw Error(
        ErrorCode::kInvalidFormat,
        fmt::format("token id {} is far beyond the number of tokens ({})", id, count_),
        {.tensor = "vocab"});
  }
  if (arena_.size() + piece.size() >= kAbsent) {
    throw Error(ErrorCode::kInvalidFormat, "the vocabulary's text exceeds 4 GiB",
                {.tensor = "vocab"});
  }
  if (Has(id)) {
    if (Piece(id) == piece) return;
    throw Error(
        ErrorCode::kInvalidFormat,
        fmt::format("token id {} is given to two pieces, '{}' and '{}'", id, Piece(id), piece),
        {.tensor = "vocab"});
  }
  if (order_.empty() && id != count_) {
    order_.resize(count_);
    std::iota(order_.begin(), order_.end(), 0u);
  }
  if (!order_.empty() || id != count_) order_.push_back(id);
  const Entry entry = {static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(piece.size())};
  if (id == entries_.size()) {
    entries_.push_back(entry);
  } else {
    if (id > entries_.size()) entries_.resize(id + size_t{1});
    entries_[id] = entry;
  }
  arena_ += piece;
  longest_ = std::max(longest_, piece.size());
  ++count_;
}

void Vocabulary::BuildIndex(bool first_wins) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, count_ + count_ / 2));
  slots_.assign(capacity, {});
  mask_ = capacity - 1;
  // Slots are asked for some pieces ahead, so that the misses overlap.
  constexpr size_t kAhead = 16;
  uint64_t hashes[kAhead];
  const auto id_of = [&](size_t i) { return order_.empty() ? static_cast<uint32_t>(i) : order_[i]; };
  const auto ask = [&](size_t i) {
    if (i >= count_) return;
    hashes[i % kAhead] = HashBytes(Piece(id_of(i)));
    __builtin_prefetch(&slots_[hashes[i % kAhead] & mask_], 1);
  };
  for (size_t i = 0; i < kAhead; ++i) ask(i);
  for (size_t i = 0; i < count_; ++i) {
    const uint32_t id = id_of(i);
    const std::string_view piece = Piece(id);
    const uint64_t hash = hashes[i % kAhead];
    ask(i + kAhead);
    const uint64_t head = Head(piece, hash);
    uint64_t at = hash & mask_;
    while (slots_[at].id_plus_one != 0 && !Holds(slots_[at], head, piece)) at = (at + 1) & mask_;
    if (slots_[at].id_plus_one != 0) {
      duplicates_ = true;
      if (first_wins) continue;
    }
    slots_[at] = {head, static_cast<uint32_t>(piece.size()), id + 1};
  }
}

// Different pieces of one size up to kInline have different heads: every byte is in it.
uint64_t Vocabulary::Head(std::string_view piece, uint64_t hash) {
  const char* data = piece.data();
  const size_t size = piece.size();
  if (size > kInline) return hash;
  if (size >= 4) return LoadLe<uint32_t>(data) | uint64_t{LoadLe<uint32_t>(data + size - 4)} << 32;
  if (size == 0) return 0;
  const auto byte = [data](size_t i) { return uint64_t{static_cast<unsigned char>(data[i])}; };
  return byte(0) | byte(size / 2) << 8 | byte(size - 1) << 16;
}

std::optional<uint32_t> Vocabulary::Find(std::string_view piece, uint64_t hash) const {
  if (slots_.empty()) return std::nullopt;
  const uint64_t head = Head(piece, hash);
  for (uint64_t at = hash & mask_; slots_[at].id_plus_one != 0; at = (at + 1) & mask_) {
    if (Holds(slots_[at], head, piece)) return slots_[at].id_plus_one - 1;
  }
  return std::nullopt;
}

}  // namespace apr
