// See word_models.h.
#include "tokenizer/word_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

constexpr double kUnknownPenalty = 10.0;
constexpr double kFarFromZero = 100000;

[[noreturn]] void FailUnknown(std::string_view what, std::string_view token) {
  throw Error(ErrorCode::kInvalidFormat,
              fmt::format("the text has {} and the vocabulary no unknown token '{}'", what, token),
              {.tensor = "unk_token"});
}

}  // namespace

UnigramModel::UnigramModel(Vocabulary vocabulary, UnigramOptions options)
    : TokenModel(std::move(vocabulary)), options_(std::move(options)) {
  options_.scores.resize(vocabulary_.size(), 0.0);
  double lowest = std::numeric_limits<double>::max();
  const bool typed = !options_.types.empty();
  options_.types.resize(vocabulary_.size(), PieceType::kNormal);
  size_t bytes = 0;
  for (uint32_t id = 0; id < vocabulary_.size(); ++id) {
    bytes += vocabulary_.Piece(id).size();
    if (!vocabulary_.Has(id) || (typed && options_.types[id] != PieceType::kNormal)) continue;
    lowest = std::min(lowest, options_.scores[id]);
  }
  if (lowest == std::numeric_limits<double>::max()) lowest = 0;
  trie_.Reserve(bytes);
  for (uint32_t id = 0; id < vocabulary_.size(); ++id) {
    const PieceType type = options_.types[id];
    if (type != PieceType::kNormal && type != PieceType::kUserDefined) continue;
    const std::string_view piece = vocabulary_.Piece(id);
    // Of several ids with one spelling, the one that the index finds.
    if (!typed && vocabulary_.has_duplicates() && vocabulary_.Find(piece) != id) continue;
    trie_.Insert(piece, id);
    // A user-defined piece outweighs what could cover the same text: SentencePiece 0.2.3, GetUserDefinedScore.
    if (type == PieceType::kUserDefined) options_.scores[id] = static_cast<float>(0.1 * (static_cast<double>(piece.size()) - 1));
  }
  unk_score_ = Sum(lowest, -kUnknownPenalty);
  if (options_.unk_id) unk_ = *options_.unk_id;
  if (options_.byte_fallback) byte_ids_ = ByteFallbackIds(vocabulary_);
}

// SentencePiece 0.2.3 keeps its sums small in long texts, where float would round them to whole numbers.
void UnigramModel::MoveToZero(std::span<Best> ways) {
  const double offset = ways[0].score;
  for (Best& way : ways) {
    if (way.begin != kUnset) way.score = static_cast<float>(way.score - offset);
  }
  ways[0].score = 0;
}

void UnigramModel::Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const {
  (void)scratch;
  const size_t size = word.size();
  std::vector<Best> best(size + 1);  // best way to cover the first i bytes
  size_t reached = 0;                // the last of them that is set
  for (size_t i = 0; i < size;) {
    if (options_.single_precision && std::abs(best[i].score) > kFarFromZero) MoveToZero(std::span(best).subspan(i, reached + 1 - i));
    const double here = best[i].score;
    const uint32_t length = unicode::SequenceLength(static_cast<unsigned char>(word[i]));
    bool covered = false;
    uint32_t node = 0;
    for (size_t j = i; j < size; ++j) {
      node = trie_.Step(node, static_cast<unsigned char>(word[j]));
      if (node == ByteTrie::kNone) break;
      const uint32_t id = trie_.Value(node);
      if (id == ByteTrie::kNone) continue;
      Offer(best[j + 1], {Sum(here, options_.scores[id]), id, static_cast<uint32_t>(i)});
      reached = std::max(reached, j + 1);
      if (j + 1 - i == length) covered = true;
    }
    if (!covered) {
      Offer(best[i + length], {Sum(here, unk_score_), unk_, static_cast<uint32_t>(i)});
      reached = std::max<size_t>(reached, i + length);
    }
    i += length;
  }
  std::vector<std::pair<uint32_t, uint32_t>> path;  // (id, end), last first
  for (size_t end = size; end > 0; end = best[end].begin) {
    path.emplace_back(best[end].id, static_cast<uint32_t>(end));
  }
  uint32_t begin = 0;
  for (size_t i = path.size(); i-- > 0;) {
    uint32_t end = path[i].second;
    if (path[i].first != unk_) {
      sink.Add(path[i].first, begin, end);
    } else {
      while (i > 0 && path[i - 1].first == unk_) end = path[--i].second;
      AddUnknown(word, begin, end, sink);
    }
    begin = end;
  }
}

void UnigramModel::AddUnknown(std::string_view word, uint32_t begin, uint32_t end,
                              TokenSink& sink) const {
  const std::string_view text = word.substr(begin, end - begin);
  // Unknown parts in a row were joined: together they may be a piece after all.
  if (const auto id = vocabulary_.Find(text)) return sink.Add(*id, begin, end);
  const auto known = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)].has_value(); };
  if (options_.byte_fallback && std::all_of(text.begin(), text.end(), known)) {
    for (uint32_t i = begin; i < end; ++i) {
      sink.Add(*byte_ids_[static_cast<unsigned char>(word[i])], i, i + 1);
    }
    return;
  }
  if (!options_.unk_id) FailUnknown(fmt::format("'{}', which is no piece,", text), "unk_id");
  sink.Add(*options_.unk_id, begin, end);
}

WordPieceModel::WordPieceModel(Vocabulary vocabulary, WordPieceOptions options)
    : TokenModel(std::move(vocabulary)), options_(std::move(options)) {
  unk_ = vocabulary_.Find(options_.unk_token);
}

void WordPieceModel::Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const {
  (void)scratch;
  const auto size = static_cast<uint32_t>(word.size());
  uint64_t characters = 0;
  for (const char c : word) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  const size_t before = sink.ids.size();
  bool unknown = characters > options_.max_input_chars_per_word;
  std::string candidate;
  for (uint32_t begin = 0; begin < size && !unknown;) {
    const std::string& prefix =
        begin == 0 ? options_.word_prefix : options_.continuing_subword_prefix;
    uint32_t end = static_cast<uint32_t>(std::min<size_t>(size, begin + vocabulary_.longest()));
    while (end < size && (static_cast<unsigned char>(word[end]) & 0xC0) == 0x80) --end;
    std::optional<uint32_t> found;
    while (end > begin) {
      candidate = prefix;
      candidate += word.substr(begin, end - begin);
      found = vocabulary_.Find(candidate);
      if (found) break;
      do {
        --end;
      } while (end > begin && (static_cast<unsigned char>(word[end]) & 0xC0) == 0x80);
    }
    if (!found) {
      unknown = true;
      break;
    }
    sink.Add(*found, begin, end);
    begin = end;
  }
  if (!unknown) return;
  sink.ids.resize(before);
  if (sink.spans != nullptr) sink.spans->resize(before);
  if (!unk_) FailUnknown("a word of unknown pieces", options_.unk_token);
  sink.Add(*unk_, 0, size);
}

WordLevelModel::WordLevelModel(Vocabulary vocabulary, std::string unk_token)
    : TokenModel(std::move(vocabulary)), unk_token_(std::move(unk_token)) {
  unk_ = vocabulary_.Find(unk_token_);
}

void WordLevelModel::Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const {
  (void)scratch;
  const auto id = vocabulary_.Find(word);
  if (!id && !unk_) FailUnknown("a word that is no piece", unk_token_);
  sink.Add(id ? *id : *unk_, 0, static_cast<uint32_t>(word.size()));
}

}  // namespace apr
