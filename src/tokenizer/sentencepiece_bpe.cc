// See sentencepiece_bpe.h.
#include "tokenizer/sentencepiece_bpe.h"

#include <algorithm>
#include <bit>
#include <map>
#include <string>

#include "tokenizer/unicode.h"
#include "tokenizer/word_cache.h"

namespace apr {
namespace {

constexpr uint32_t kFrozen = 0x80000000;  // a user-defined piece: never merged

// User-defined pieces may be spelled with spaces; the text they are looked for in has marks.
std::string EscapeSpaces(std::string_view piece) {
  std::string out;
  for (const char c : piece) {
    if (c == ' ') {
      out += kSpaceMark;
    } else {
      out += c;
    }
  }
  return out;
}

// A number that orders as descending score does.
uint32_t OrderOf(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // of the two zeros the positive one
  const uint32_t ascending = bits & 0x80000000 ? ~bits : bits | 0x80000000;
  return ~ascending;
}

}  // namespace

// Merges by looking the concatenation up; remembers how unused pieces came about.
class SentencePieceBpe::Pairs final : public PairSource {
 public:
  Pairs(const SentencePieceBpe& model, std::string_view word) : model_(model), word_(word) {}

  Merge Pair(uint32_t left, uint32_t right, uint32_t begin, uint32_t middle,
             uint32_t end) override {
    if ((left | right) & kFrozen) return {};
    if (end - begin > model_.vocabulary_.longest()) return {};
    const std::string_view piece = word_.substr(begin, end - begin);
    const auto id = model_.FindPiece(piece);
    if (!id) return {};
    if (model_.pieces_.types[*id] == PieceType::kUnused) joints_[piece] = middle - begin;
    return {model_.ranks_[*id], *id};
  }
  uint32_t ranks() const override { return model_.vocabulary_.size(); }

  std::string_view word() const { return word_; }
  // Size of the left part that `piece` was joined from last; nullopt if it never was.
  std::optional<uint32_t> LeftPart(std::string_view piece) const {
    const auto it = joints_.find(piece);
    if (it == joints_.end()) return std::nullopt;
    return it->second;
  }

 private:
  const SentencePieceBpe& model_;
  std::string_view word_;
  std::map<std::string_view, uint32_t> joints_;
};

SentencePieceBpe::SentencePieceBpe(Vocabulary vocabulary, ScoredPieces pieces)
    : TokenModel(std::move(vocabulary)), pieces_(std::move(pieces)) {
  pieces_.scores.resize(vocabulary_.size(), 0.0f);
  pieces_.types.resize(vocabulary_.size(), PieceType::kNormal);
  if (pieces_.byte_fallback) byte_ids_ = ByteFallbackIds(vocabulary_);
  RankPieces();
  std::fill(std::begin(cut_before_space_), std::end(cut_before_space_), true);
  for (uint32_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view piece = vocabulary_.Piece(id);
    has_unused_ = has_unused_ || pieces_.types[id] == PieceType::kUnused;
    if (pieces_.types[id] == PieceType::kUserDefined) user_defined_.Insert(EscapeSpaces(piece), id);
    for (size_t at = piece.find(kSpaceMark, 1); at != std::string_view::npos;
         at = piece.find(kSpaceMark, at + 1)) {
      if (at >= kSpaceMark.size() && piece.substr(at - kSpaceMark.size(), kSpaceMark.size()) == kSpaceMark) continue;
      cut_before_space_[static_cast<unsigned char>(piece[at - 1])] = false;
    }
  }
}

void SentencePieceBpe::RankPieces() {
  std::vector<uint64_t> order(vocabulary_.size());
  for (uint32_t id = 0; id < order.size(); ++id) order[id] = uint64_t{OrderOf(pieces_.scores[id])} << 32 | id;
  // Files list their pieces in this order for the most part.
  if (!std::is_sorted(order.begin(), order.end())) std::sort(order.begin(), order.end());
  ranks_.resize(order.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && order[i] >> 32 != order[i - 1] >> 32) ++rank;
    ranks_[static_cast<uint32_t>(order[i])] = rank;
  }
}

std::optional<uint32_t> SentencePieceBpe::FindPiece(std::string_view piece) const {
  const auto id = vocabulary_.Find(piece);
  if (!id) return std::nullopt;
  const PieceType type = pieces_.types[*id];
  const bool text =
      type == PieceType::kNormal || type == PieceType::kUserDefined || type == PieceType::kUnused;
  return text ? id : std::nullopt;
}

void SentencePieceBpe::SplitAtSpaces(std::string_view text, std::vector<uint32_t>& ends) const {
  for (size_t at = text.find(kSpaceMark, 1); at != std::string_view::npos;
       at = text.find(kSpaceMark, at + 1)) {
    if (at >= kSpaceMark.size() && text.substr(at - kSpaceMark.size(), kSpaceMark.size()) == kSpaceMark) continue;
    if (cut_before_space_[static_cast<unsigned char>(text[at - 1])]) {
      ends.push_back(static_cast<uint32_t>(at));
    }
  }
  ends.push_back(static_cast<uint32_t>(text.size()));
}

// The characters and user-defined pieces of a word.
class SentencePieceBpe::Characters final : public SymbolSource {
 public:
  Characters(const ByteTrie& user_defined, std::string_view word) : user_defined_(user_defined), word_(word) {}
  uint32_t Read(uint32_t begin, size_t count, Symbols& symbols) const override {
    size_t i = begin;
    for (; i < word_.size() && count > 0; --count) {
      const auto lead = static_cast<unsigned char>(word_[i]);
      const auto match = user_defined_.Begins(lead) ? user_defined_.Longest(word_.substr(i)) : ByteTrie::Match{};
      symbols.push_back(match.length > 0 ? kFrozen | match.value : 0, static_cast<uint32_t>(i));
      i += match.length > 0 ? match.length : unicode::SequenceLength(lead);
    }
    return static_cast<uint32_t>(i);
  }

 private:
  const ByteTrie& user_defined_;
  std::string_view word_;
};

void SentencePieceBpe::Emit(const Pairs& pairs, uint32_t begin, uint32_t end, uint32_t offset,
                            TokenSink& sink) const {
  const std::string_view piece = pairs.word().substr(begin, end - begin);
  const auto id = FindPiece(piece);
  if (id && pieces_.types[*id] == PieceType::kUnused) {
    if (const auto left = pairs.LeftPart(piece)) {
      Emit(pairs, begin, begin + *left, offset, sink);
      Emit(pairs, begin + *left, end, offset, sink);
      return;
    }
  }
  if (id) {
    sink.Add(*id, offset + begin, offset + end);
    return;
  }
  if (pieces_.byte_fallback) {
    for (uint32_t i = begin; i < end; ++i) {
      const auto byte = byte_ids_[static_cast<unsigned char>(pairs.word()[i])];
      if (byte) sink.Add(*byte, offset + i, offset + i + 1);
      if (!byte && pieces_.unk_id) sink.Add(*pieces_.unk_id, offset + i, offset + i + 1);
    }
    return;
  }
  if (pieces_.unk_id) sink.Add(*pieces_.unk_id, offset + begin, offset + end);
}

void SentencePieceBpe::EncodeWord(std::string_view word, uint32_t offset, TokenSink& sink,
                                  EncodeScratch& scratch) const {
  Symbols& symbols = scratch.symbols;
  const auto size = static_cast<uint32_t>(word.size());
  Pairs pairs(*this, word);
  // How an unused piece came about last hangs on the order of all merges.
  const size_t window = has_unused_ ? word.size() : kMergeWindow;
  MergeInWindows(pairs, Characters(user_defined_, word), size, window, symbols, scratch.merge);
  const int32_t unk = pieces_.unk_id ? static_cast<int32_t>(*pieces_.unk_id) : -1;
  const bool fuse = !pieces_.byte_fallback && pieces_.unk_id;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const uint32_t end = i + 1 < symbols.size() ? symbols.begins[i + 1] : size;
    if (symbols.ids[i] & kFrozen) {
      sink.Add(symbols.ids[i] & ~kFrozen, offset + symbols.begins[i], offset + end);
      continue;
    }
    const size_t before = sink.ids.size();
    Emit(pairs, symbols.begins[i], end, offset, sink);
    // Unknown characters in a row are one unknown token.
    if (fuse && before > 0 && i > 0 && sink.ids.size() == before + 1 && sink.ids[before] == unk &&
        sink.ids[before - 1] == unk) {
      sink.ids.pop_back();
      if (sink.spans != nullptr) {
        const uint32_t stop = sink.spans->back().end;
        sink.spans->pop_back();
        sink.spans->back().end = stop;
      }
    }
  }
}

void SentencePieceBpe::Encode(std::string_view text, TokenSink& sink,
                              EncodeScratch& scratch) const {
  std::vector<uint32_t>& ends = scratch.ends;
  ends.clear();
  // Unknown tokens fuse across words, so only a model with byte fallback may cut.
  if (pieces_.byte_fallback) {
    SplitAtSpaces(text, ends);
  } else {
    ends.push_back(static_cast<uint32_t>(text.size()));
  }
  if (sink.spans != nullptr) {
    uint32_t begin = 0;
    for (const uint32_t end : ends) {
      EncodeWord(text.substr(begin, end - begin), begin, sink, scratch);
      begin = end;
    }
    return;
  }
  if (!scratch.cache) scratch.cache = std::make_unique<WordCache>();
  EncodeThroughCache(
      *scratch.cache, text, ends, sink.ids, [&](std::string_view word) -> const auto& {
        scratch.ids.clear();
        TokenSink inner{scratch.ids};
        EncodeWord(word, 0, inner, scratch);
        return scratch.ids;
      });
}

}  // namespace apr
