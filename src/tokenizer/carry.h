// A model's tokenizer on its way from one container to another: tokenizer files of a folder, GGUF's
// tokenizer.* keys, .apr's tokenizer.* keys. Chat templates and generation settings travel along.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "format/model_file.h"

namespace apr {

struct CarriedTokenizer {
  MetaBuilder metadata;  // for a GGUF or .apr
  std::vector<std::pair<std::string, std::string>> files;  // name and text, for a folder
  std::vector<std::string> warnings;
};

// What `target` needs of the tokenizer of `file`. Lists of tokens are filled up to `vocab_size`. A
// source without tokenizer gives tokenizer.ggml.model "none" in a GGUF, nothing elsewhere, and a
// warning. A folder's files, source being a folder too, are the exporter's to copy. Small files of a
// folder (tokenizer_config.json, generation_config.json ...) travel verbatim as apr.file.<name>.
// Throws kModelLoad for a kind of tokenizer that the target has no form for, kInvalidFormat.
CarriedTokenizer CarryTokenizer(const ModelFile& file, Container target, int64_t vocab_size);

// .apr's keys for the tokenizer.json in `folder`.
CarriedTokenizer AprTokenizer(const std::string& folder, int64_t vocab_size);

// GGUF's tokenizer.ggml.* keys for a tokenizer.json. Source: llama.cpp conversion/base.py, _set_vocab_*.
struct GgufTokenizerArgs {
  std::string path;  // of tokenizer.json; tokenizer_config.json beside it is read
  int64_t vocab_size = 0;
};
MetaBuilder GgufTokenizer(const GgufTokenizerArgs& args, std::vector<std::string>& warnings);

}  // namespace apr
