// The normalisers of tokenizer.json: steps that rewrite the text before it is cut. Semantics as
// huggingface/tokenizers, tokenizers/src/normalizers/.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/aligned_text.h"
#include "tokenizer/normal_form.h"
#include "tokenizer/pattern.h"

namespace apr {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual AlignedText Apply(const AlignedText& text) const = 0;
  // For reports, e.g. "NFC", "Replace(\" \" -> \"▁\")".
  virtual std::string Describe() const = 0;
};
using NormalizerPtr = std::shared_ptr<const Normalizer>;

struct BertNormalizerOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};

NormalizerPtr MakeNormalForm(NormalForm form);
NormalizerPtr MakeBertNormalizer(const BertNormalizerOptions& options);
NormalizerPtr MakeLowercase();
NormalizerPtr MakeStripAccents();
NormalizerPtr MakeNmt();
NormalizerPtr MakeStrip(bool left, bool right);
NormalizerPtr MakePrepend(std::string prefix);
NormalizerPtr MakeReplace(Pattern pattern, std::string content);
NormalizerPtr MakeByteLevelNormalizer();
NormalizerPtr MakeNormalizerSequence(std::vector<NormalizerPtr> steps);

// SentencePiece's precompiled character map: a double-array trie of UTF-8 keys and the texts they
// become. `blob`: uint32 size of the trie in bytes, the trie, the texts, each ended by a zero byte.
// Throws kInvalidFormat (key "precompiled_charsmap"). kGraphemes: as tokenizers (whole graphemes
// first, then characters, shortest match); kLongest: as SentencePiece (longest match at each
// position).
enum class CharsmapMatch { kGraphemes, kLongest };
NormalizerPtr MakeCharsmap(std::string_view blob, CharsmapMatch match);

// SentencePiece's treatment of white space: runs of spaces to one and none at the ends
// (`remove_extra`), a space in front (`dummy_prefix`), spaces to U+2581 (`escape`).
struct SpaceRules {
  bool remove_extra = false;
  bool dummy_prefix = false;
  bool escape = true;
};
NormalizerPtr MakeSpaceNormalizer(const SpaceRules& rules);

}  // namespace apr
