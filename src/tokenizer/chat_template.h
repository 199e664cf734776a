// Chat templates: text with Jinja markup that turns a conversation into a model's prompt.
//
// The environment is the one Hugging Face transformers renders them in (jinja2's
// ImmutableSandboxedEnvironment with trim_blocks and lstrip_blocks, loop controls, the generation
// tag, raise_exception, strftime_now, tojson as json.dumps); docs/chat-templates.md lists what is
// supported. Source of the semantics: jinja2 3.1 (pallets/jinja) and transformers
// src/transformers/utils/chat_template_utils.py.
//
// Templates come with downloaded models, so they are hostile: parsing and rendering are bounded in
// work, depth, memory and output, and reach nothing outside the given values.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json_fwd.h"

namespace apr {

enum class TemplateErrorKind {
  kSyntax,   // the text is no template
  kRuntime,  // undefined variable, wrong type, something the sandbox forbids
  kRaised,   // the template called raise_exception: message() is its text, word for word
  kLimit,    // a bound of TemplateLimits was met
};
// "syntax", "runtime", "raise_exception", "limit".
const char* TemplateErrorKindName(TemplateErrorKind kind);

// Code kValidationFailed for kRaised (the template refuses the conversation), else kInvalidFormat.
class TemplateError : public Error {
 public:
  TemplateError(TemplateErrorKind kind, std::string message, uint32_t line, std::string file = {});
  TemplateErrorKind kind() const { return kind_; }
  uint32_t line() const { return line_; }  // in the template, from 1; 0 if unknown

 private:
  TemplateErrorKind kind_;
  uint32_t line_;
};

struct TemplateLimits {
  int64_t steps = 8'000'000;         // units of work: nodes evaluated, bytes moved / 32
  size_t memory_bytes = 64u << 20;   // alive at once, beyond the template itself
  size_t output_bytes = 32u << 20;   // of the rendering
  int depth = 4000;                  // of nodes being evaluated
  size_t stack_bytes = 2u << 20;     // of the calling thread
  size_t source_bytes = 4u << 20;    // of a template
};

// What a rendering depends on beside the template.
struct TemplateInput {
  const Json* messages = nullptr;   // array of objects; borrowed, as the others
  const Json* tools = nullptr;      // nullptr: none
  const Json* variables = nullptr;  // object of further variables (bos_token, documents, ...)
  bool add_generation_prompt = true;
  std::string now;      // ISO local time for strftime_now; empty: the clock
  bool prepare = true;  // prepare the messages as transformers does: see PrepareMessages
};

// A parsed template. Immutable: one object may render on several threads at once.
class ChatTemplate {
 public:
  // Throws TemplateError(kSyntax) with the line; `name` stands in errors as the file.
  static ChatTemplate Parse(std::string_view source, std::string name = {},
                            const TemplateLimits& limits = {});
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // The prompt, well-formed UTF-8. Throws TemplateError.
  std::string Render(const TemplateInput& input) const;
  // Renders with nothing but `variables` (an object) defined: the engine by itself.
  std::string RenderPlain(const Json& variables, const std::string& now = {}) const;

  const std::string& name() const { return name_; }

 private:
  struct Impl;
  ChatTemplate();
  std::unique_ptr<const Impl> impl_;
  std::string name_;
  TemplateLimits limits_;
};

// The messages as transformers hands them to a template: keys with value null are dropped, and the
// first of reasoning_content, thinking, reasoning that a message has is given under
// reasoning_content, and under thinking unless that is there. Throws TemplateError(kRuntime) when
// `messages` is no non-empty array of objects.
Json PrepareMessages(const Json& messages);

// Renders a list of cases {"messages", "tools", "add_generation_prompt", "extra", "now"} into a
// list of
// {"rendered": text} or {"error": message, "error_kind": kind}. Throws Error(kInvalidFormat) when
// `cases` is not of that form.
Json RenderCases(const ChatTemplate& chat_template, const Json& cases);

}  // namespace apr
