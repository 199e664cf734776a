// The pre-tokenizers of tokenizer.json: steps that cut the text into the pieces that the model
// sees. Semantics as huggingface/tokenizers, tokenizers/src/pre_tokenizers/.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tokenizer/aligned_text.h"
#include "tokenizer/pattern.h"
#include "tokenizer/splitter.h"

namespace apr {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
const char* SplitBehaviorName(SplitBehavior behavior);

enum class PrependScheme { kFirst, kNever, kAlways };

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Cuts the pieces further, and may rewrite them.
  virtual void Apply(PieceList& list) const = 0;
  virtual std::string Describe() const = 0;
  // Whether Apply asks where in the user's text a piece began.
  virtual bool NeedsSources() const { return false; }
  // For a step that only isolates matches and changes no text: the splitter that does the same.
  virtual std::unique_ptr<const Splitter> AsSplitter() const { return nullptr; }
};
using PreTokenizerPtr = std::shared_ptr<const PreTokenizer>;

struct ByteLevelOptions {
  bool add_prefix_space = true;
  bool use_regex = true;
};
struct MetaspaceOptions {
  std::string replacement = "\xE2\x96\x81";
  PrependScheme prepend_scheme = PrependScheme::kAlways;
  bool split = true;
};

PreTokenizerPtr MakeSplit(Pattern pattern, SplitBehavior behavior, bool invert);
PreTokenizerPtr MakeByteLevel(const ByteLevelOptions& options);
PreTokenizerPtr MakeMetaspace(const MetaspaceOptions& options);
PreTokenizerPtr MakeBertPreTokenizer();
PreTokenizerPtr MakeWhitespace();  // \w+|[^\w\s]+
PreTokenizerPtr MakeWhitespaceSplit();
PreTokenizerPtr MakePunctuation(SplitBehavior behavior);
PreTokenizerPtr MakeDigits(bool individual);
PreTokenizerPtr MakeDelimiter(std::string delimiter);
PreTokenizerPtr MakeUnicodeScripts();
PreTokenizerPtr MakeFixedLength(uint64_t characters);
PreTokenizerPtr MakePreTokenizerSequence(std::vector<PreTokenizerPtr> steps);

}  // namespace apr
