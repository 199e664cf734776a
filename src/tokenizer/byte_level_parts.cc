// Words of other scripts than Latin: cut where no token crosses, merged from characters on. See bpe_model.h.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "tokenizer/bpe_model.h"
#include "tokenizer/unicode.h"
#include "tokenizer/word_cache.h"

namespace apr {
namespace {

constexpr uint32_t kIdBits = 30;
constexpr uint32_t kIdMask = (uint32_t{1} << kIdBits) - 1;
// Longer parts are looked up in the cache before they are merged.
constexpr size_t kUncached = 4;

}  // namespace

// A part of a word on its way.
struct ByteLevelEncoder::Part {
  uint32_t ids[kShortMerge];
  size_t count = 0;
  bool by_characters = true;  // else its bytes must be merged
  int32_t* out = nullptr;     // where its tokens go
};

bool ByteLevelEncoder::IsWorthCutting(std::string_view word) const {
  constexpr size_t kShort = 12;  // merging is quick up to here
  static_assert(kShort > SafeCuts::kLongToken);
  if (word.size() <= kShort) return false;
  // Of words of two alphabets the last character decides; what is not cut is only slower.
  return static_cast<unsigned char>(word.back()) >= 0x80;
}

void ByteLevelEncoder::PrepareParts() const {
  cuts_ = std::make_unique<const SafeCuts>(model_.vocabulary());
  if (!complete_ || !model_.rules().ordered() || model_.vocabulary().size() > kIdMask) return;
  // Untouched pages of zeros cost nothing.
  characters_.reset(static_cast<Character*>(std::calloc(kCharacters, sizeof(Character))));
  if (!characters_) throw std::bad_alloc();
}

void ByteLevelEncoder::LearnCharacter(char32_t cp, std::string_view bytes) const {
  const std::lock_guard lock(learning_);
  uint32_t ids[4];
  for (size_t i = 0; i < bytes.size(); ++i) ids[i] = byte_ids_[static_cast<unsigned char>(bytes[i])];
  const size_t count = MergeShort(model_.rules().table(), ids, bytes.size());
  Character& character = characters_[cp];
  if (std::atomic_ref(character.first).load(std::memory_order_relaxed) != 0) return;  // another thread was first
  std::copy_n(ids + 1, count - 1, character.rest);
  std::atomic_ref(character.first).store((ids[0] + 1) | static_cast<uint32_t>(count - 1) << kIdBits, std::memory_order_release);
}

void ByteLevelEncoder::AppendCharacter(char32_t cp, std::string_view bytes, Part& part) const {
  if (!characters_ || cp >= kCharacters || part.count + 4 > kShortMerge) {
    part.by_characters = false;
    return;
  }
  Character& character = characters_[cp];
  uint32_t first = std::atomic_ref(character.first).load(std::memory_order_acquire);
  if (first == 0) {
    LearnCharacter(cp, bytes);
    first = std::atomic_ref(character.first).load(std::memory_order_acquire);
  }
  part.ids[part.count++] = (first & kIdMask) - 1;
  for (uint32_t i = 0; i < first >> kIdBits; ++i) part.ids[part.count++] = character.rest[i];
}

void ByteLevelEncoder::FinishPart(std::string_view bytes, Part& part, EncodeScratch& scratch) const {
  if (part.by_characters && (part.count <= kUncached || bytes.size() > WordCache::kLongBytes)) {
    part.out = std::copy_n(part.ids, MergeShort(model_.rules().table(), part.ids, part.count), part.out);
    return;
  }
  const bool alike = !model_.options().ignore_merges;
  std::unique_ptr<WordCache>& cache = alike ? scratch.cache : scratch.part_cache;
  if (!cache) cache = std::make_unique<WordCache>();
  WordCache::Key key;
  if (const WordCache::Hit hit = cache->Look(bytes.data(), bytes.size(), bytes.data() + bytes.size(), key); hit.ids != nullptr) {
    part.out = std::copy_n(hit.ids, hit.count, part.out);
    return;
  }
  int32_t* const begin = part.out;
  if (part.by_characters) {
    part.out = std::copy_n(part.ids, MergeShort(model_.rules().table(), part.ids, part.count), begin);
  } else {
    EncodeWord(bytes, true, scratch.symbols, scratch);
    part.out = std::copy(scratch.symbols.ids.begin(), scratch.symbols.ids.end(), begin);
  }
  cache->Insert(key, begin, static_cast<size_t>(part.out - begin));
}

std::span<const int32_t> ByteLevelEncoder::EncodeParts(std::string_view word, EncodeScratch& scratch) const {
  std::call_once(parts_made_, [&] { PrepareParts(); });
  std::vector<int32_t>& ids = scratch.part_ids;
  if (ids.size() < word.size()) ids.resize(word.size());  // no more tokens than bytes
  if (const auto id = cuts_->MayBeToken(word) ? FindWhole(word) : std::nullopt) {
    ids[0] = static_cast<int32_t>(*id);
    return {ids.data(), 1};
  }
  Part part;
  part.out = ids.data();
  size_t begin = 0;
  char32_t before = 0;
  for (size_t at = 0; at < word.size();) {
    const auto [cp, length] = unicode::DecodeValid(&word[at]);
    if (at > 0 && (cp | before) >= 0x80) {
      const SafeCuts::Border border = cuts_->At(before, cp, word, at);
      if (border == SafeCuts::Border::kCut) {
        FinishPart(word.substr(begin, at - begin), part, scratch);
        begin = at;
        part.count = 0;
        part.by_characters = true;
      } else if (border == SafeCuts::Border::kPartial) {
        part.by_characters = false;
      }
    }
    if (part.by_characters) AppendCharacter(cp, word.substr(at, length), part);
    before = cp;
    at += length;
  }
  FinishPart(word.substr(begin), part, scratch);
  return {ids.data(), static_cast<size_t>(part.out - ids.data())};
}

}  // namespace apr
