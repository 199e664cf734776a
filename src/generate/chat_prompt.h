// What a model is given to run for a prompt that somebody typed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "format/model_file.h"
#include "tokenizer/tokenizer.h"

namespace apr {

struct PromptTokens {
  std::vector<int32_t> ids;
  std::string text;           // as tokenised: the rendered template, or the text itself
  std::string template_name;  // where the chat template stands; empty: none was applied
};

// True if the model's files carry a chat template, so that it expects conversations.
bool HasChatTemplate(const ModelFile& file);

// The template's text for `messages` and the opening of an answer; special tokens written in it become
// those tokens, and nothing is put around it (as transformers' apply_chat_template does). Throws
// TemplateError, kNotFound if there is no template.
PromptTokens ChatPrompt(const ModelFile& file, const Tokenizer& tokenizer, const Json& messages);

// The text with what the tokenizer puts around one.
PromptTokens PlainPrompt(const Tokenizer& tokenizer, const std::string& text);

}  // namespace apr
