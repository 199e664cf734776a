// A tokenizer with some of its parts taken from another one: what a comparison of two tokenizers tries
// in order to say which setting makes them differ.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace apr {

class BpeModel;

// Bits of a set of parts.
enum TokenizerPart : unsigned {
  kPartVocabulary = 1,     // the pieces by id
  kPartMerges = 2,         // merges, or scores and types of pieces; with them the kind of the model
  kPartOptions = 4,        // options of a BPE model: ignore_merges, byte_fallback, unknown token ...
  kPartPreTokenizer = 8,   // how text is cut
  kPartNormalizer = 16,    // how text is rewritten before
  kPartPrefixSpace = 32,   // a space in front of each stretch (byte-level tokenizers)
  kPartAddedTokens = 64,   // tokens that are found first
  kPartAround = 128,       // what is put before and after a text, and the ids with a role
};
constexpr unsigned kAllParts = 255;

// `base` with the parts of `from_donor` (TokenizerPart bits) taken from `donor`. Merges follow their
// spelling, scores and types their id. Shares what it can with both. Throws kModelLoad for parts that do
// not fit together (a byte-level pre-tokenizer before a model that is none).
std::shared_ptr<const Tokenizer> Recombine(const Tokenizer& base, const Tokenizer& donor, unsigned from_donor);

// The merges in order of rank, spelled; those included that its vocabulary lacks parts of.
std::vector<std::pair<std::string, std::string>> SpelledMerges(const BpeModel& model);

}  // namespace apr
