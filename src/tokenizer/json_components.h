// Building the small components of tokenizer.json (everything but the model) from their JSON.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/splitter.h"
#include "tokenizer/vocabulary.h"

namespace apr {

// All throw kInvalidFormat (a field of the wrong type; the context's key names the component) or
// kModelLoad (a component of unknown type, by name). JSON null gives nullptr.
NormalizerPtr NormalizerFromJson(const Json& json);
DecoderPtr DecoderFromJson(const Json& json);
PreTokenizerPtr PreTokenizerFromJson(const Json& json);

// The fast form of a pre-tokenizer that ends in ByteLevel and before that only isolates; splitter
// is null if it is not of that form.
struct ByteLevelForm {
  std::unique_ptr<const Splitter> splitter;
  bool prefix_space = false;
};
ByteLevelForm ByteLevelFormFromJson(const Json& json);

// Ids before and after the text, for one sequence.
struct SpecialTemplate {
  std::vector<int32_t> prefix, suffix;
  bool has_text = true;  // false: the template leaves the text out
};
SpecialTemplate TemplateFromJson(const Json& json);

// `added_tokens`: the ids are given as tokenizers gives them: that of the vocabulary where it has
// the spelling, else counted up.
std::vector<AddedToken> AddedTokensFromJson(const Json& json, const Vocabulary& vocabulary,
                                            std::vector<std::string>& notes);

// The bytes of a base64 text; throws kInvalidFormat naming `component`.
std::string FromBase64(std::string_view text, const std::string& component);

}  // namespace apr
