// The models of tokenizer.json that are not byte-pair encoding: Unigram (google/sentencepiece,
// src/unigram_model.cc: the segmentation of highest total score), WordPiece (google-research/bert,
// tokenization.py: longest match first) and WordLevel (a word is a piece or unknown).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/byte_trie.h"
#include "tokenizer/model.h"
#include "tokenizer/sentencepiece_bpe.h"

namespace apr {

struct UnigramOptions {
  std::vector<double> scores;    // one an id
  std::vector<PieceType> types;  // one an id; empty: all normal (tokenizer.json)
  std::optional<uint32_t> unk_id;
  bool byte_fallback = false;
  bool single_precision = false;  // sums in float, as SentencePiece; tokenizers sums in double
};

class UnigramModel final : public TokenModel {
 public:
  UnigramModel(Vocabulary vocabulary, UnigramOptions options);
  // Throws kInvalidFormat for an unknown character where the model has no unknown token.
  void Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const override;
  const char* kind() const override { return "Unigram"; }
  const UnigramOptions& options() const { return options_; }

 private:
  static constexpr uint32_t kUnset = 0xFFFFFFFF;
  struct Best {
    double score = 0;
    uint32_t id = 0;
    uint32_t begin = kUnset;
  };
  double Sum(double a, double b) const { return options_.single_precision ? static_cast<float>(a + b) : a + b; }
  static void Offer(Best& best, const Best& way) {
    if (best.begin == kUnset || way.score > best.score) best = way;
  }
  static void MoveToZero(std::span<Best> ways);
  void AddUnknown(std::string_view word, uint32_t begin, uint32_t end, TokenSink& sink) const;

  UnigramOptions options_;
  ByteTrie trie_;
  double unk_score_ = 0;
  uint32_t unk_ = 0xFFFFFFFF;  // stands in the lattice for "no piece"
  std::vector<std::optional<uint32_t>> byte_ids_;
};

struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  std::string word_prefix;  // put before each word (the GGUF spelling)
  uint64_t max_input_chars_per_word = 100;
};

class WordPieceModel final : public TokenModel {
 public:
  WordPieceModel(Vocabulary vocabulary, WordPieceOptions options);
  // Throws kInvalidFormat for an unknown word where the vocabulary lacks the unknown token.
  void Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const override;
  const char* kind() const override { return "WordPiece"; }
  const WordPieceOptions& options() const { return options_; }

 private:
  WordPieceOptions options_;
  std::optional<uint32_t> unk_;
};

class WordLevelModel final : public TokenModel {
 public:
  WordLevelModel(Vocabulary vocabulary, std::string unk_token);
  // Throws as WordPieceModel.
  void Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const override;
  const char* kind() const override { return "WordLevel"; }
  const std::string& unk_token() const { return unk_token_; }

 private:
  std::string unk_token_;
  std::optional<uint32_t> unk_;
};

}  // namespace apr
