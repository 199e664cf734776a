// See chat_prompt.h.
#include "generate/chat_prompt.h"

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/chat_template_source.h"

namespace apr {

bool HasChatTemplate(const ModelFile& file) {
  try {
    FindChatTemplate(file.path(), false);
    return true;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kNotFound) return false;
    throw;
  }
}

PromptTokens ChatPrompt(const ModelFile& file, const Tokenizer& tokenizer, const Json& messages) {
  const ChatTemplateSource source = FindChatTemplate(file.path(), false);
  const Json variables = ParseJson(source.special_tokens_json, source.name);
  TemplateInput input;
  input.messages = &messages;
  input.variables = &variables;
  PromptTokens out;
  out.text = ChatTemplate::Parse(source.text, source.name).Render(input);
  out.template_name = source.name;
  out.ids = tokenizer.Encode(out.text, {.add_special = false, .parse_special = true}).ids;
  return out;
}

PromptTokens PlainPrompt(const Tokenizer& tokenizer, const std::string& text) {
  return {.ids = tokenizer.Encode(text, {.add_special = true, .parse_special = true}).ids, .text = text};
}

}  // namespace apr
