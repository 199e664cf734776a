// From token ids back to text, one token at a time: what comes out is always whole characters, and
// what has come out is always a prefix of the whole text. Decoding a list is the same with all its
// tokens. Semantics of tokenizer.json's steps as huggingface/tokenizers, tokenizers/src/decoders/.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pattern.h"
#include "tokenizer/pre_tokenizer.h"

namespace apr {

// A token as the decoder sees it.
struct DecoderToken {
  std::string_view piece;  // as the vocabulary spells it
  bool literal = false;    // stands for its own bytes whatever the decoder's alphabet
  bool control = false;
  bool unknown = false;
};

// One text in the making.
class DecoderStream {
 public:
  virtual ~DecoderStream() = default;
  // Appends what can be said for sure after this token.
  virtual void Push(const DecoderToken& token, std::string& out) = 0;
  // Appends the rest; the stream is at its beginning again.
  virtual void Flush(std::string& out) = 0;
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual std::unique_ptr<DecoderStream> NewStream() const = 0;
  // The bytes one token stands for, inside a text.
  virtual std::string TokenBytes(const DecoderToken& token) const = 0;
  virtual std::string Describe() const = 0;
};
using DecoderPtr = std::unique_ptr<const Decoder>;

// Byte-level: pieces spell bytes; ill-formed UTF-8 becomes U+FFFD for each maximal part.
DecoderPtr MakeByteLevelDecoder();

// SentencePiece (google/sentencepiece, src/sentencepiece_processor.cc, Decode): U+2581 is a space,
// "<0xHH>" a byte; a byte that belongs to no character becomes U+FFFD. `strip_first_space`: the
// text began with a space put in front, which is taken off; control pieces are then invisible, as
// in SentencePiece, otherwise printed.
DecoderPtr MakeSentencePieceDecoder(bool strip_first_space);

// One step of tokenizer.json's decoder: rewrites the token list. `first`: tokens[0] is the first of
// the text; `last`: tokens.back() is its last.
class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  virtual void Apply(std::vector<std::string>& tokens, bool first, bool last) const = 0;
  virtual std::string Describe() const = 0;
  // Whether tokens can be decoded as they come (kEach: each alone; kRuns: runs of byte tokens
  // together; kJoin: joins what follows, after which only kFirst steps keep that property), or not
  // at all.
  enum class Locality { kEach, kRuns, kJoin, kFirst, kWhole };
  virtual Locality locality() const = 0;
};
using DecoderStepPtr = std::unique_ptr<const DecoderStep>;

DecoderStepPtr MakeByteLevelStep();
DecoderStepPtr MakeReplaceStep(Pattern pattern, std::string content);
DecoderStepPtr MakeByteFallbackStep();
DecoderStepPtr MakeFuseStep();
DecoderStepPtr MakeStripStep(std::string content, uint64_t start, uint64_t stop);
DecoderStepPtr MakeMetaspaceStep(std::string replacement, PrependScheme scheme);
DecoderStepPtr MakeWordPieceStep(std::string prefix, bool cleanup);
DecoderStepPtr MakeBpeStep(std::string suffix);
DecoderStepPtr MakeCtcStep(std::string pad_token, std::string word_delimiter, bool cleanup);

// Steps in a row; with none, tokens are joined by `separator`. Where the steps do not allow
// decoding as tokens come, a stream says everything in Flush.
DecoderPtr MakeDecoderChain(std::vector<DecoderStepPtr> steps, std::string separator);

}  // namespace apr
