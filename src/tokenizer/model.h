// The step from a piece of text to token ids: what tokenizer.json calls the model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/aligned_text.h"
#include "tokenizer/merge.h"
#include "tokenizer/vocabulary.h"

namespace apr {

class WordCache;

// Working memory of one Encode call; reused between calls, never shared by two at a time.
struct EncodeScratch {
  EncodeScratch();
  ~EncodeScratch();
  Symbols symbols;
  MergeScratch merge;
  std::vector<uint32_t> ends;
  std::vector<int32_t> ids;
  std::unique_ptr<WordCache> cache;
  std::unique_ptr<WordCache> part_cache;  // of parts of words, where those are not encoded like words
  std::vector<int32_t> part_ids;
};

// Where a model puts tokens: ids, and for each the bytes [begin, end) of the word, if wanted.
struct TokenSink {
  std::vector<int32_t>& ids;
  std::vector<ByteSpan>* spans = nullptr;

  void Add(uint32_t id, uint32_t begin, uint32_t end) {
    ids.push_back(static_cast<int32_t>(id));
    if (spans != nullptr) spans->push_back({begin, end});
  }
};

class TokenModel {
 public:
  explicit TokenModel(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  virtual ~TokenModel() = default;

  // Appends the tokens of `word` (well-formed UTF-8, not empty).
  virtual void Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const = 0;

  // "BPE", "Unigram", "WordPiece", "WordLevel", "SentencePiece BPE".
  virtual const char* kind() const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 protected:
  const Vocabulary vocabulary_;
};

// Ids of the pieces "<0x00>" .. "<0xFF>"; nullopt where one is missing.
std::vector<std::optional<uint32_t>> ByteFallbackIds(const Vocabulary& vocabulary);
// The byte that a piece "<0xHH>" stands for.
std::optional<uint8_t> ByteOfPiece(std::string_view piece);

// The alphabet of byte-level tokenizers: every byte as a printable character (openai/gpt-2,
// src/encoder.py, bytes_to_unicode).
char32_t ByteLevelCharacter(uint8_t byte);
// The bytes that a byte-level piece spells; nullopt if a character of it is not of that alphabet.
std::optional<std::string> ByteLevelBytes(std::string_view piece);
// The same in `bytes`; false if there are none.
bool ByteLevelBytes(std::string_view piece, std::string& bytes);
std::string ByteLevelSpelling(std::string_view bytes);

}  // namespace apr
