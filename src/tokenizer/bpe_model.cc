// See bpe_model.h.
#include "tokenizer/bpe_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <span>

#include "base/error.h"
#include "base/thread_pool.h"
#include "tokenizer/unicode.h"
#include "tokenizer/word_cache.h"

namespace apr {
namespace {

constexpr uint64_t kDigestSeed = 0x9E3779B97F4A7C15u;

// Looks up the parts and results of merges in blocks. What a block will touch is asked for while the one before is
// looked up, so that the misses overlap.
class MergeResolver {
 public:
  static constexpr size_t kBlock = 32;
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  struct Ids {
    uint32_t left = kNone, right = kNone, result = kNone;
    bool whole() const { return left != kNone && right != kNone && result != kNone; }
  };

  MergeResolver(const Vocabulary& vocabulary, const BpeOptions& options)
      : vocabulary_(vocabulary), prefix_(options.continuing_subword_prefix.size()), skip_bad_(options.skip_bad_merges) {}

  // The merges of ranks [begin, begin + ids.size()); those that are not whole go to `skipped`.
  void Run(const MergeSource& source, size_t begin, std::span<Ids> ids, std::vector<MergeRules::Skipped>& skipped) {
    const MergeSource::Reader read = source.from(begin);
    Ask(read, 0, ids.size());
    for (size_t at = 0; at < ids.size(); at += kBlock) {
      Ask(read, at + kBlock, ids.size());
      const size_t count = std::min(kBlock, ids.size() - at);
      const Block& block = blocks_[at / kBlock % 2];
      for (size_t i = 0; i < count; ++i) {
        for (const uint64_t hash : block.hashes[i]) vocabulary_.PrefetchPiece(hash);
      }
      for (size_t i = 0; i < count; ++i) {
        const MergePair& pair = block.pairs[i];
        Ids& out = ids[at + i];
        out = {vocabulary_.Find(pair.first, block.hashes[i][0]).value_or(kNone),
               vocabulary_.Find(pair.second, block.hashes[i][1]).value_or(kNone), FindResult(pair)};
        if (!out.whole()) skipped.push_back(Skip(begin + at + i, pair, out));
      }
    }
  }

 private:
  struct Block {
    MergePair pairs[kBlock];
    uint64_t hashes[kBlock][2];
  };

  void Ask(const MergeSource::Reader& read, size_t at, size_t size) {
    if (at >= size) return;
    const size_t count = std::min(kBlock, size - at);
    Block& block = blocks_[at / kBlock % 2];
    read(std::span(block.pairs, count));
    for (size_t i = 0; i < count; ++i) {
      block.hashes[i][0] = HashBytes(block.pairs[i].first);
      block.hashes[i][1] = HashBytes(block.pairs[i].second);
      vocabulary_.PrefetchSlot(block.hashes[i][0]);
      vocabulary_.PrefetchSlot(block.hashes[i][1]);
    }
  }

  MergeRules::Skipped Skip(size_t rank, const MergePair& pair, const Ids& ids) const {
    if (skip_bad_) return {static_cast<uint32_t>(rank), std::string(pair.first), std::string(pair.second)};
    const std::string missing = ids.left == kNone    ? std::string(pair.first)
                                : ids.right == kNone ? std::string(pair.second)
                                                     : std::string(pair.first) + std::string(pair.second);
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("merge {} ('{}' '{}'): '{}' is not in the vocabulary", rank, pair.first, pair.second, missing),
                {.tensor = "merges"});
  }

  // Vocabularies list results in the order of merges, several merges may give one result: the last
  // one and the id after it are tried first.
  uint32_t FindResult(const MergePair& pair) {
    const std::string_view first = pair.first;
    const std::string_view second = pair.second.substr(std::min(prefix_, pair.second.size()));
    if (!vocabulary_.has_duplicates()) {
      for (const uint32_t guess : {last_, last_ + 1}) {
        const std::string_view piece = vocabulary_.Piece(guess);
        if (piece.size() == first.size() + second.size() && piece.starts_with(first) &&
            piece.ends_with(second)) {
          return last_ = guess;
        }
      }
    }
    joined_.assign(first);
    joined_ += second;
    const auto id = vocabulary_.Find(joined_);
    if (id) last_ = *id;
    return id.value_or(kNone);
  }

  const Vocabulary& vocabulary_;
  size_t prefix_;
  bool skip_bad_;
  uint32_t last_ = 0;
  std::string joined_;
  Block blocks_[2];
};

}  // namespace

MergeSource MergeSource::Of(const std::vector<MergePair>& pairs) {
  return {pairs.size(), [&pairs](size_t begin) -> Reader {
            return [next = pairs.data() + begin](std::span<MergePair> out) mutable {
              std::copy_n(next, out.size(), out.begin());
              next += out.size();
            };
          }};
}

MergeRules MergeRules::Resolve(const Vocabulary& vocabulary, const MergeSource& pairs, const BpeOptions& options) {
  using Ids = MergeResolver::Ids;
  LargeVector<Ids> ids(pairs.size);
  const std::span all(ids);
  // Two halves where there is a second processor and enough to do.
  const size_t half = pairs.size > 20000 && ThreadPool::HardwareThreads() > 1 ? pairs.size / 2 : pairs.size;
  MergeRules rules;
  std::vector<Skipped> skipped;
  std::future<void> rest;
  if (half < pairs.size) {
    rest = std::async(std::launch::async, [&] { MergeResolver(vocabulary, options).Run(pairs, half, all.subspan(half), skipped); });
  }
  MergeResolver(vocabulary, options).Run(pairs, 0, all.first(half), rules.skipped_);

  rules.table_.Reserve(pairs.size);
  // Highest rank + 1 of a merge that makes the id, so far.
  std::vector<uint32_t> made(vocabulary.size(), 0);
  constexpr size_t kAhead = 24;
  for (size_t rank = 0; rank < ids.size(); ++rank) {
    if (rank == half) rest.get();
    const size_t ahead = rank + kAhead;
    if (ahead < (rank < half ? half : ids.size())) rules.table_.Prefetch(ids[ahead].left, ids[ahead].right);
    if (!ids[rank].whole()) continue;
    const auto [left, right, result] = ids[rank];
    rules.table_.Insert(left, right, {static_cast<uint32_t>(rank), result});
    made[result] = static_cast<uint32_t>(rank) + 1;
    rules.digest_ = (rules.digest_ ^ MixHash(uint64_t{left} << 32 | right, result ^ kDigestSeed)) * kDigestSeed;
  }
  rules.skipped_.insert(rules.skipped_.end(), std::make_move_iterator(skipped.begin()), std::make_move_iterator(skipped.end()));
  for (size_t rank = 0; rank < ids.size() && rules.ordered_; ++rank) {
    if (!ids[rank].whole()) continue;
    rules.ordered_ = made[ids[rank].left] <= rank && made[ids[rank].right] <= rank;
  }
  return rules;
}

BpeModel::BpeModel(Vocabulary vocabulary, MergeRules rules, BpeOptions options)
    : TokenModel(std::move(vocabulary)), rules_(std::move(rules)), options_(std::move(options)) {
  if (!options_.unk_token.empty()) unk_ = vocabulary_.Find(options_.unk_token);
  if (options_.byte_fallback) byte_ids_ = ByteFallbackIds(vocabulary_);
}

void BpeModel::AppendSymbols(std::string_view word, Symbols& symbols) const {
  // As tokenizers' BPE: a character that is no piece becomes its bytes, else (part of) an unknown
  // token, else nothing; an unknown token is written when the next known character comes.
  constexpr uint32_t kNothing = 0xFFFFFFFF;
  uint32_t pending = kNothing;  // begin of the unknown token not yet written
  std::string decorated;
  for (size_t i = 0; i < word.size();) {
    const uint32_t length = unicode::SequenceLength(static_cast<unsigned char>(word[i]));
    const auto begin = static_cast<uint32_t>(i);
    std::string_view piece = word.substr(i, length);
    const bool first = i == 0;
    const bool last = i + length == word.size();
    i += length;
    if ((!first && !options_.continuing_subword_prefix.empty()) ||
        (last && !options_.end_of_word_suffix.empty())) {
      decorated = first ? "" : options_.continuing_subword_prefix;
      decorated += piece;
      if (last) decorated += options_.end_of_word_suffix;
      piece = decorated;
    }
    if (const auto id = vocabulary_.Find(piece)) {
      if (pending != kNothing) symbols.push_back(*unk_, pending);
      pending = kNothing;
      symbols.push_back(*id, begin);
      continue;
    }
    if (options_.byte_fallback) {
      const auto known = [&](char c) {
        return byte_ids_[static_cast<unsigned char>(c)].has_value();
      };
      if (std::all_of(piece.begin(), piece.end(), known)) {
        for (size_t b = 0; b < piece.size(); ++b) {
          const auto at = begin + static_cast<uint32_t>(std::min<size_t>(b, length - 1));
          symbols.push_back(*byte_ids_[static_cast<unsigned char>(piece[b])], at);
        }
        continue;
      }
    }
    if (!unk_) continue;
    if (pending != kNothing && !options_.fuse_unk) {
      symbols.push_back(*unk_, pending);
      pending = kNothing;
    }
    if (pending == kNothing) pending = begin;
  }
  if (pending != kNothing) symbols.push_back(*unk_, pending);
}

void BpeModel::Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const {
  const auto end = static_cast<uint32_t>(word.size());
  if (options_.ignore_merges) {
    if (const auto id = vocabulary_.Find(word)) {
      sink.Add(*id, 0, end);
      return;
    }
  }
  Symbols& symbols = scratch.symbols;
  symbols.clear();
  AppendSymbols(word, symbols);
  if (symbols.size() > kMergeWindow) {
    MergeInWindows(rules_.table(), symbols, kMergeWindow, scratch.merge);
  } else {
    MergeAll(rules_.table(), symbols, end, scratch.merge);
  }
  for (size_t i = 0; i < symbols.size(); ++i) {
    sink.Add(symbols.ids[i], symbols.begins[i],
             i + 1 < symbols.size() ? symbols.begins[i + 1] : end);
  }
}

std::unique_ptr<const ByteLevelEncoder> ByteLevelEncoder::Make(const BpeModel& model) {
  const BpeOptions& options = model.options();
  if (!options.continuing_subword_prefix.empty() || !options.end_of_word_suffix.empty() ||
      options.byte_fallback) {
    return nullptr;
  }
  std::unique_ptr<ByteLevelEncoder> encoder(new ByteLevelEncoder(model));
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const std::string spelling = ByteLevelSpelling(std::string_view(&byte, 1));
    std::copy(spelling.begin(), spelling.end(), encoder->spellings_[b].text);
    encoder->spellings_[b].size = static_cast<uint8_t>(spelling.size());
    const auto id = model.vocabulary().Find(spelling);
    encoder->byte_ids_[b] = id.value_or(kNone);
    if (!id) encoder->complete_ = false;
  }
  if (!encoder->complete_ && !options.unk_token.empty()) return nullptr;
  return encoder;
}

// The bytes of a word, without those that have no token.
class ByteLevelEncoder::ByteSymbols final : public SymbolSource {
 public:
  ByteSymbols(std::string_view word, const uint32_t* ids) : word_(word), ids_(ids) {}
  uint32_t Read(uint32_t begin, size_t count, Symbols& symbols) const override {
    const auto size = static_cast<uint32_t>(word_.size());
    for (uint32_t i = begin; i < size; ++i) {
      const uint32_t id = ids_[static_cast<unsigned char>(word_[i])];
      if (id == kNone) continue;
      if (count-- == 0) return i;
      symbols.push_back(id, i);
    }
    return size;
  }

 private:
  std::string_view word_;
  const uint32_t* ids_;
};

std::optional<uint32_t> ByteLevelEncoder::FindWhole(std::string_view word) const {
  const Vocabulary& vocabulary = model_.vocabulary();
  if (!model_.options().ignore_merges || word.size() > vocabulary.longest()) return std::nullopt;
  if (word.size() > kShortMerge) return vocabulary.Find(ByteLevelSpelling(word));
  char spelling[2 * kShortMerge];
  size_t size = 0;
  for (const char c : word) {
    const Spelling& byte = spellings_[static_cast<unsigned char>(c)];
    spelling[size] = byte.text[0];
    spelling[size + 1] = byte.text[1];
    size += byte.size;
  }
  return vocabulary.Find(std::string_view(spelling, size));
}

std::span<const int32_t> ByteLevelEncoder::EncodeShort(std::string_view word, EncodeScratch& scratch) const {
  std::vector<uint32_t>& ids = scratch.symbols.ids;
  ids.resize(kShortMerge);
  size_t count = 0;
  if (const auto id = FindWhole(word)) {
    ids[count++] = *id;
  } else {
    for (const char c : word) {
      ids[count] = byte_ids_[static_cast<unsigned char>(c)];
      count += ids[count] != kNone;
    }
    count = MergeShort(model_.rules().table(), ids.data(), count);
  }
  // Ids are below 2^31.
  return {reinterpret_cast<const int32_t*>(ids.data()), count};
}

void ByteLevelEncoder::EncodeWord(std::string_view word, bool part, Symbols& symbols,
                                  EncodeScratch& scratch) const {
  symbols.clear();
  const auto end = static_cast<uint32_t>(word.size());
  if (const auto id = part ? std::nullopt : FindWhole(word)) {
    symbols.push_back(*id, 0);
    return;
  }
  const ByteSymbols bytes(word, byte_ids_);
  if (word.size() > kMergeWindow) {
    MergeInWindows(model_.rules().table(), bytes, end, kMergeWindow, symbols, scratch.merge);
  } else {
    bytes.Read(0, end, symbols);
    MergeAll(model_.rules().table(), symbols, end, scratch.merge);
  }
}

void ByteLevelEncoder::Encode(std::string_view text, const std::vector<uint32_t>& ends,
                              TokenSink& sink, EncodeScratch& scratch) const {
  Symbols& symbols = scratch.symbols;
  if (sink.spans == nullptr) {
    if (!scratch.cache) scratch.cache = std::make_unique<WordCache>();
    EncodeThroughCache(*scratch.cache, text, ends, sink.ids, [&](std::string_view word) {
      if (IsWorthCutting(word)) return EncodeParts(word, scratch);
      if (word.size() <= kShortMerge) return EncodeShort(word, scratch);
      EncodeWord(word, false, symbols, scratch);
      return std::span(reinterpret_cast<const int32_t*>(symbols.ids.data()), symbols.ids.size());
    });
    return;
  }
  uint32_t begin = 0;
  for (const uint32_t end : ends) {
    EncodeWord(text.substr(begin, end - begin), false, symbols, scratch);
    for (size_t i = 0; i < symbols.size(); ++i) {
      const uint32_t stop = i + 1 < symbols.size() ? symbols.begins[i + 1] : end - begin;
      sink.Add(symbols.ids[i], begin + symbols.begins[i], begin + stop);
    }
    begin = end;
  }
}

}  // namespace apr
