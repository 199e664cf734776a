// SentencePiece's byte-pair model (google/sentencepiece, src/bpe_model.cc): no merges are given;
// two neighbours merge if their concatenation is a piece, the one of the highest score first, the
// leftmost among equals. User-defined pieces are cut out first, longest first, and never merged. A
// character that is no piece becomes its bytes or the unknown token.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/byte_trie.h"
#include "tokenizer/model.h"

namespace apr {

// GGUF's tokenizer.ggml.token_type and SentencePiece's ModelProto.SentencePiece.Type.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// "\u2581", which stands for a space inside pieces.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

struct ScoredPieces {
  std::vector<float> scores;     // one an id
  std::vector<PieceType> types;  // one an id
  std::optional<uint32_t> unk_id;
  bool byte_fallback = false;
};

class SentencePieceBpe final : public TokenModel {
 public:
  SentencePieceBpe(Vocabulary vocabulary, ScoredPieces pieces);
  // `word`: normalised text, spaces as kSpaceMark.
  void Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const override;
  const char* kind() const override { return "SentencePiece BPE"; }
  const ScoredPieces& pieces() const { return pieces_; }

 private:
  class Pairs;
  class Characters;
  void RankPieces();
  void SplitAtSpaces(std::string_view text, std::vector<uint32_t>& ends) const;
  // Adds the tokens of `word`, which begins at byte `offset` of the text.
  void EncodeWord(std::string_view word, uint32_t offset, TokenSink& sink,
                  EncodeScratch& scratch) const;
  // Adds what the symbol [begin, end) of the word becomes; takes unused pieces apart again.
  void Emit(const Pairs& pairs, uint32_t begin, uint32_t end, uint32_t offset,
            TokenSink& sink) const;
  // The id of a piece that text can become: normal, user-defined or unused.
  std::optional<uint32_t> FindPiece(std::string_view piece) const;

  ScoredPieces pieces_;
  std::vector<uint32_t> ranks_;  // one an id: the place of its score among all scores, the highest first
  bool has_unused_ = false;
  ByteTrie user_defined_;
  std::vector<std::optional<uint32_t>> byte_ids_;
  // No piece has a space mark right after this byte: text can be cut there.
  bool cut_before_space_[256] = {};
};

}  // namespace apr
