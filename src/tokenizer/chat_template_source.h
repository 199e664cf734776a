// Where a model keeps its chat template, and the texts of its special tokens that templates print.
#pragma once

#include <string>

#include "base/json_fwd.h"

namespace apr {

struct ChatTemplateSource {
  std::string text;  // the Jinja source
  std::string name;  // for errors: file, and key in it
  // bos_token, eos_token and the other "*_token" texts the source states: an object of strings.
  std::string special_tokens_json = "{}";
};

// `path`: a .jinja file, tokenizer_config.json (or another JSON file with "chat_template"), a GGUF
// or .apr file, or a folder with chat_template.jinja, tokenizer_config.json or one model file.
// Where the source has several templates by name, "tool_use" is taken when the conversation has
// tools, else "default". Throws Error: kNotFound (no such path, or no template there),
// kInvalidFormat, kIo. Source of the keys: transformers tokenization_utils_base.py, llama.cpp docs
// (tokenizer.chat_template).
ChatTemplateSource FindChatTemplate(const std::string& path, bool has_tools);

}  // namespace apr
