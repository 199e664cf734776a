// A Hugging Face tokenizer.json and tokenizer_config.json from the tokenizer that a GGUF carries, so that
// a converted folder is complete.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "format/model_file.h"

namespace apr {

struct TokenizerFiles {
  // Name and text of each file: tokenizer.json, tokenizer_config.json, generation_config.json.
  std::vector<std::pair<std::string, std::string>> files;
  std::vector<std::string> warnings;  // what tokenizer.json cannot say as the source did
};

// nullopt when the file carries no tokenizer. Throws kModelLoad for a kind that is not converted (bert,
// t5) or an unknown pre-tokenizer name.
std::optional<TokenizerFiles> TokenizerFilesFromGguf(const ModelFile& file);

}  // namespace apr
