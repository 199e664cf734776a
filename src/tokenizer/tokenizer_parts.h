// What a Tokenizer is made of; filled by the loaders, and by Recombine (recombine.h), which shares parts
// between tokenizers.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe_model.h"
#include "tokenizer/decoder.h"
#include "tokenizer/model.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/splitter.h"
#include "tokenizer/tokenizer.h"

namespace apr {

struct TokenizerParts {
  std::shared_ptr<const TokenModel> model;
  std::unique_ptr<const AddedTokens> added;
  NormalizerPtr normalizer;       // may be null
  PreTokenizerPtr pre_tokenizer;  // may be null
  std::shared_ptr<const Decoder> decoder;

  // The fast way for byte-level BPE: used instead of pre_tokenizer and model.
  std::shared_ptr<const Splitter> splitter;
  std::unique_ptr<const ByteLevelEncoder> byte_level;
  // Added tokens stand for their own bytes in the decoder (GGUF); else it reads them like any
  // piece.
  bool literal_added = false;
  bool prefix_space = false;  // a space in front of each stretch of text that has none

  std::vector<int32_t> prefix, suffix;  // add_special
  SpecialIds special;
  TokenizerDescription description;
  uint64_t merges_digest = 0;

  // Working memory, lent to one call at a time.
  std::mutex scratch_mutex;
  std::vector<std::unique_ptr<EncodeScratch>> scratch;

  // Puts together the added tokens, looked for in the raw text or its normalised form.
  void SetAddedTokens(std::vector<AddedToken> tokens);
};

// Loaders that another one hands over to.
std::unique_ptr<TokenizerParts> LoadTokenizerJson(std::string_view text, const std::string& file);
std::unique_ptr<TokenizerParts> LoadSentencePiece(std::string_view bytes, const std::string& file);
// nullptr: none there. `pre`: a pre-tokenizer's name instead of the file's; empty: the file's.
std::unique_ptr<TokenizerParts> LoadModelMetadata(const ModelFile& file, const std::string& pre = {});
// Ids by role from the tokenizer_config.json beside a tokenizer file, if it is there.
void ReadTokenizerConfig(const std::string& tokenizer_path, TokenizerParts& parts);

}  // namespace apr
