// See chat_template.h.
#include "tokenizer/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/json.h"
#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_builtin.h"
#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_json.h"
#include "tokenizer/jinja_runtime.h"

namespace apr {
namespace {

using jinja::Runtime;
using jinja::Value;

ErrorCode CodeOf(TemplateErrorKind kind) {
  return kind == TemplateErrorKind::kRaised ? ErrorCode::kValidationFailed
                                            : ErrorCode::kInvalidFormat;
}

// The file of an error of a template: its name and line.
ErrorContext ContextOf(const std::string& file, uint32_t line) {
  if (line == 0) return {.file = file};
  return {.file = fmt::format("{}:{}", file.empty() ? "template" : file, line)};
}

// Values of a rendering by name, looked up in the order of the program's context.
class Context {
 public:
  Context(Runtime& rt, const jinja::Program& program) : rt_(rt), program_(program) {}

  void Add(const std::string& name, const Json* value) { given_.emplace_back(name, value); }
  void AddFlag(const std::string& name, bool value) { flags_.emplace_back(name, value); }

  jinja::Values Resolve() {
    jinja::Values values;
    values.reserve(program_.context_names.size());
    for (const std::string& name : program_.context_names) values.push_back(Find(name));
    return values;
  }

 private:
  Value Find(const std::string& name) {
    const auto named = [&](const auto& entry) { return entry.first == name; };
    // What is added last wins.
    if (const auto it = std::find_if(given_.rbegin(), given_.rend(), named); it != given_.rend()) {
      return it->second == nullptr ? Value::None() : jinja::FromJson(rt_, *it->second);
    }
    if (const auto it = std::find_if(flags_.begin(), flags_.end(), named); it != flags_.end()) {
      return Value::Bool(it->second);
    }
    return jinja::MakeGlobal(rt_, name);
  }

  Runtime& rt_;
  const jinja::Program& program_;
  std::vector<std::pair<std::string, const Json*>> given_;
  std::vector<std::pair<std::string, bool>> flags_;
};

std::string RunProgram(Runtime& rt, const jinja::Program& program, Context& context) {
  struct End {
    Runtime& rt;
    ~End() { rt.EndRendering(); }
  };
  const jinja::Values values = context.Resolve();
  const End end{rt};
  std::string text;
  {
    jinja::Interpreter interpreter(rt, program, values);
    text = interpreter.Run();
  }
  if (!IsValidUtf8(text)) {
    throw TemplateError(TemplateErrorKind::kRuntime,
                        "UnicodeEncodeError: the rendering holds a lone surrogate", 0);
  }
  return text;
}

[[noreturn]] void FailCase(size_t index, const std::string& what) {
  throw Error(ErrorCode::kInvalidFormat, fmt::format("case {}: {}", index, what));
}

Json RenderCase(const ChatTemplate& chat_template, const Json& test, size_t index) {
  if (!test.is_object()) FailCase(index, "not an object");
  const auto member = [&](const char* name) {
    return test.contains(name) ? &test.at(name) : nullptr;
  };
  TemplateInput input;
  input.messages = member("messages");
  if (input.messages == nullptr) FailCase(index, "no messages");
  input.tools = member("tools");
  input.variables = member("extra");
  if (const Json* flag = member("add_generation_prompt")) {
    if (!flag->is_boolean()) FailCase(index, "add_generation_prompt is no boolean");
    input.add_generation_prompt = flag->get<bool>();
  }
  if (const Json* now = member("now"); now != nullptr && !now->is_null()) {
    if (!now->is_string()) FailCase(index, "now is no string");
    input.now = now->get<std::string>();
  }
  if (const Json* prepare = member("prepare"))
    input.prepare = prepare->is_boolean() && prepare->get<bool>();
  try {
    return Json{{"rendered", chat_template.Render(input)}};
  } catch (const TemplateError& error) {
    return Json{{"error", error.message()}, {"error_kind", TemplateErrorKindName(error.kind())}};
  }
}

}  // namespace

const char* TemplateErrorKindName(TemplateErrorKind kind) {
  switch (kind) {
    case TemplateErrorKind::kSyntax:
      return "syntax";
    case TemplateErrorKind::kRaised:
      return "raise_exception";
    case TemplateErrorKind::kRuntime:
    case TemplateErrorKind::kLimit:
      return "runtime";
  }
  return "runtime";
}

TemplateError::TemplateError(TemplateErrorKind kind, std::string message, uint32_t line,
                             std::string file)
    : Error(CodeOf(kind), std::move(message), ContextOf(file, line)), kind_(kind), line_(line) {}

struct ChatTemplate::Impl {
  jinja::Program program;
};

ChatTemplate::ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

ChatTemplate ChatTemplate::Parse(std::string_view source, std::string name,
                                 const TemplateLimits& limits) {
  if (source.size() > limits.source_bytes) {
    throw TemplateError(TemplateErrorKind::kSyntax,
                        fmt::format("template of {} bytes; at most {} are read", source.size(),
                                    limits.source_bytes),
                        0, name);
  }
  if (!IsValidUtf8(source))
    throw TemplateError(TemplateErrorKind::kSyntax, "template is not UTF-8", 0, name);
  ChatTemplate result;
  try {
    result.impl_ = std::make_unique<const Impl>(Impl{jinja::ParseProgram(source)});
  } catch (const TemplateError& error) {
    throw TemplateError(error.kind(), error.message(), error.line(), name);
  }
  result.name_ = std::move(name);
  result.limits_ = limits;
  return result;
}

std::string ChatTemplate::Render(const TemplateInput& input) const {
  Runtime rt(limits_,
             input.now.empty() ? jinja::CurrentLocalTime() : jinja::ParseLocalTime(input.now));
  rt.SetStackBase();
  Context context(rt, impl_->program);
  static const Json empty = Json::array();
  const Json* given = input.messages != nullptr ? input.messages : &empty;
  try {
    const Json prepared = input.prepare ? PrepareMessages(*given) : Json();
    context.Add("documents", nullptr);
    context.AddFlag("add_generation_prompt", input.add_generation_prompt);
    if (input.variables != nullptr && !input.variables->is_null()) {
      if (!input.variables->is_object()) {
        throw TemplateError(TemplateErrorKind::kRuntime, "the variables are no object", 0);
      }
      for (const auto& [key, value] : input.variables->items()) context.Add(key, &value);
    }
    context.Add("messages", input.prepare ? &prepared : given);
    context.Add("tools", input.tools);
    return RunProgram(rt, impl_->program, context);
  } catch (const TemplateError& error) {
    throw TemplateError(error.kind(), error.message(), error.line(), name_);
  }
}

std::string ChatTemplate::RenderPlain(const Json& variables, const std::string& now) const {
  Runtime rt(limits_, now.empty() ? jinja::CurrentLocalTime() : jinja::ParseLocalTime(now));
  rt.SetStackBase();
  Context context(rt, impl_->program);
  try {
    for (const auto& [key, value] : variables.items()) context.Add(key, &value);
    return RunProgram(rt, impl_->program, context);
  } catch (const TemplateError& error) {
    throw TemplateError(error.kind(), error.message(), error.line(), name_);
  }
}

Json PrepareMessages(const Json& messages) {
  const auto fail = [](const std::string& message) {
    throw TemplateError(TemplateErrorKind::kRuntime, message, 0);
  };
  if (!messages.is_array()) fail("the messages are no list");
  if (messages.empty())
    fail("Cannot apply chat template to an empty conversation. Provide at least one message.");
  Json prepared = Json::array();
  for (const Json& message : messages) {
    if (!message.is_object()) fail("a message is no object");
    const Json* reasoning = nullptr;
    for (const char* key : {"reasoning_content", "thinking", "reasoning"}) {
      if (reasoning == nullptr && message.contains(key) && !message.at(key).is_null())
        reasoning = &message.at(key);
    }
    Json out = Json::object();
    if (reasoning != nullptr) out["thinking"] = *reasoning;
    for (const auto& [key, value] : message.items()) {
      if (!value.is_null()) out[key] = value;
    }
    if (reasoning != nullptr) out["reasoning_content"] = *reasoning;
    prepared.push_back(std::move(out));
  }
  return prepared;
}

Json RenderCases(const ChatTemplate& chat_template, const Json& cases) {
  if (!cases.is_array()) throw Error(ErrorCode::kInvalidFormat, "the cases are no list");
  Json results = Json::array();
  for (size_t i = 0; i < cases.size(); ++i)
    results.push_back(RenderCase(chat_template, cases[i], i));
  return results;
}

}  // namespace apr
