// Text to token ids and back, for every tokenizer that a tokenizer.json, a SentencePiece
// tokenizer.model, GGUF metadata or .apr metadata describes. One object serves any number of
// threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/aligned_text.h"

namespace apr {

class ModelFile;
struct TokenizerParts;

struct EncodeOptions {
  // What the tokenizer puts around a text (BOS, EOS, [CLS] ...).
  bool add_special = false;
  // Special tokens written in the text become that token; else they are text like any other. Added
  // tokens that are not special are found either way.
  bool parse_special = false;
  bool offsets = false;
};

struct Encoding {
  std::vector<int32_t> ids;
  // With `offsets`: for each id the bytes [begin, end) of the text it stands for. A token of part
  // of a character has that part where nothing was rewritten; what a normaliser changed stands for
  // the whole of what it was; tokens put around the text are empty ranges.
  std::vector<ByteSpan> spans;
};

// Ids with a role; absent where the tokenizer names none.
struct SpecialIds {
  std::optional<int32_t> bos, eos, unk, pad, sep, cls, mask, eot;
};

// What a report or a comparison of two tokenizers needs to know.
struct TokenizerDescription {
  std::string source;         // "tokenizer.json", "GGUF", "APR", "tokenizer.model"
  std::string model;          // "BPE", "SentencePiece BPE", "Unigram", "WordPiece", "WordLevel"
  std::string pre_name;       // tokenizer.ggml.pre, if there is one
  std::string normalizer;     // empty: none
  std::string pre_tokenizer;  // empty: none
  std::string decoder;
  std::string post_processor;  // e.g. "<s> $A", "$A"
  uint32_t vocab_size = 0;     // highest id + 1, added tokens included
  uint64_t merges = 0;
  bool byte_level_fast_path = false;
  // Settings of the file that are not carried out, and oddities; one sentence each.
  std::vector<std::string> notes;
};

// The text of a growing list of ids. What it returns joins to the text of all ids; each part is
// whole characters, and after any number of ids a prefix of the text.
class StreamDecoder {
 public:
  StreamDecoder(StreamDecoder&&) noexcept;
  ~StreamDecoder();
  std::string Push(int32_t id);
  std::string Flush();  // the end; ready for the next text

 private:
  friend class Tokenizer;
  struct State;
  explicit StreamDecoder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class Tokenizer {
 public:
  // A tokenizer.json. Throws kNotFound, kInvalidFormat (file, key), kModelLoad (a component of
  // unknown type, or a pattern that cannot be compiled).
  static std::shared_ptr<const Tokenizer> FromJsonFile(const std::string& path);
  static std::shared_ptr<const Tokenizer> FromJsonText(std::string_view json,
                                                       const std::string& name);
  // A SentencePiece tokenizer.model.
  static std::shared_ptr<const Tokenizer> FromSentencePieceFile(const std::string& path);
  static std::shared_ptr<const Tokenizer> FromSentencePieceBytes(std::string_view bytes,
                                                                 const std::string& name);
  // The tokenizer in a model's metadata (GGUF, .apr), or beside it (tokenizer.json,
  // tokenizer.model); nullptr if there is none. Throws as above; an unknown tokenizer.ggml.pre or
  // tokenizer.ggml.model is kModelLoad with the name.
  static std::shared_ptr<const Tokenizer> FromModelFile(const ModelFile& file);
  // Any of these by path: a tokenizer.json, a tokenizer.model, a folder, or a model file. Throws
  // kModelLoad if there is no tokenizer.
  static std::shared_ptr<const Tokenizer> Open(const std::string& path);

  explicit Tokenizer(std::unique_ptr<TokenizerParts> parts);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // `text`: less than 4 GiB; ill-formed UTF-8 counts as U+FFFD for each maximal ill-formed part.
  // Throws kInvalidFormat where the vocabulary has no way to spell the text (no unknown token).
  Encoding Encode(std::string_view text, const EncodeOptions& options = {}) const;

  // Ids that name no token are left out. Ill-formed UTF-8 becomes U+FFFD.
  std::string Decode(std::span<const int32_t> ids, bool skip_special = false) const;
  StreamDecoder Stream(bool skip_special = false) const;
  // The bytes a token stands for inside a text (the space mark as a space); empty for an unknown
  // id.
  std::string TokenBytes(int32_t id) const;

  // The spelling in the vocabulary; nullopt for an id without a token.
  std::optional<std::string> IdToPiece(int32_t id) const;
  std::optional<int32_t> PieceToId(std::string_view piece) const;
  int32_t vocab_size() const;  // highest id + 1

  bool IsSpecial(int32_t id) const;
  bool IsAdded(int32_t id) const;
  const SpecialIds& special_ids() const;
  // What add_special puts before and after a text.
  const std::vector<int32_t>& prefix_ids() const;
  const std::vector<int32_t>& suffix_ids() const;
  bool add_bos() const;  // prefix_ids() begins with bos
  bool add_eos() const;  // suffix_ids() ends with eos

  const TokenizerDescription& description() const;
  const TokenizerParts& parts() const { return *parts_; }
  // A 64-bit digest of the vocabulary's pieces (in id order) and of the merges in rank order, to
  // tell at once whether two tokenizers share them.
  uint64_t vocabulary_digest() const;
  uint64_t merges_digest() const;

 private:
  friend struct StreamDecoder::State;
  class Run;
  std::unique_ptr<TokenizerParts> parts_;
};

}  // namespace apr
