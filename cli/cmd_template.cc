// apr template: a conversation as the text that a model's chat template makes of it.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/chat_template_source.h"

namespace apr {
namespace {

struct TemplateArgs {
  std::string source;
  std::string messages, tools, vars, now, cases, out;
  bool no_generation_prompt = false;
  bool force = false;
};

Json ReadJson(const std::string& path) {
  return ParseJson(AsText(MappedFile::Open(path)->bytes()), path);
}

// The special tokens of the model, with `more` (an object or null) over them.
Json Merge(const Json& tokens, const Json& more, const std::string& file) {
  if (!more.is_null() && !more.is_object()) {
    throw Error(ErrorCode::kInvalidFormat, "the variables are no object", {.file = file});
  }
  Json merged = tokens;
  for (const auto& [key, value] : more.items()) merged[key] = value;
  return merged;
}

int RunCases(const TemplateArgs& args) {
  if (args.out.empty()) throw Error(ErrorCode::kUsage, "--cases needs --out");
  Json cases = ReadJson(args.cases);
  if (!cases.is_array())
    throw Error(ErrorCode::kInvalidFormat, "the cases are no list", {.file = args.cases});
  // A source with several templates may hold one for conversations with tools.
  const auto with_tools = FindChatTemplate(args.source, true);
  const auto without = FindChatTemplate(args.source, false);
  const ChatTemplate parsed[] = {ChatTemplate::Parse(without.text, without.name),
                                 ChatTemplate::Parse(with_tools.text, with_tools.name)};
  const Json tokens = ParseJson(without.special_tokens_json, without.name);
  std::string text = "[";
  for (size_t i = 0; i < cases.size(); ++i) {
    Json& test = cases[i];
    if (test.is_object()) {
      test["extra"] = Merge(tokens, test.value("extra", Json()), args.cases);
    }
    const bool tools = test.is_object() && test.contains("tools") && !test["tools"].is_null();
    const Json result = RenderCases(parsed[tools ? 1 : 0], Json::array({test}))[0];
    text += (i > 0 ? ",\n " : "\n ") + DumpJson(result, -1);
  }
  text += "\n]\n";
  OutputFile out(args.out, args.force ? Overwrite::kAllow : Overwrite::kRefuse);
  out.Write(text);
  out.Commit();
  return 0;
}

int Run(const TemplateArgs& args, Console& console) {
  if (args.messages.empty() == args.cases.empty()) {
    throw Error(ErrorCode::kUsage, "give either --messages or --cases");
  }
  if (!args.cases.empty()) return RunCases(args);
  if (!args.out.empty()) throw Error(ErrorCode::kUsage, "--out belongs to --cases");
  Json messages = ReadJson(args.messages);
  Json tools = args.tools.empty() ? Json() : ReadJson(args.tools);
  if (messages.is_object() && messages.contains("messages")) {  // a whole request
    if (tools.is_null() && messages.contains("tools")) tools = messages["tools"];
    messages = Json(messages["messages"]);
  }
  const auto source = FindChatTemplate(args.source, !tools.is_null());
  const Json variables = Merge(ParseJson(source.special_tokens_json, source.name),
                               args.vars.empty() ? Json() : ReadJson(args.vars), args.vars);
  TemplateInput input;
  input.messages = &messages;
  input.tools = &tools;
  input.variables = &variables;
  input.add_generation_prompt = !args.no_generation_prompt;
  input.now = args.now;
  const std::string text = ChatTemplate::Parse(source.text, source.name).Render(input);
  if (console.json()) {
    console.Document({{"rendered", text}});
  } else {
    console.Text(text);
  }
  return 0;
}

CommandRunner DefineTemplate(Flags& app) {
  auto args = std::make_shared<TemplateArgs>();
  app.AddOption("SOURCE", args->source,
                 ".jinja file, tokenizer_config.json, model file or model folder")
      ->Required();
  app.AddOption("--messages", args->messages, "JSON list of messages, or a request that holds one")
      ->TypeName("FILE");
  app.AddOption("--tools", args->tools, "JSON list of tools")->TypeName("FILE");
  app.AddOption("--vars", args->vars,
                 "JSON object of further variables (bos_token, documents, ...)")
      ->TypeName("FILE");
  app.AddOption("--now", args->now, "local time that strftime_now tells, as 2025-03-04T05:06:07")
      ->TypeName("TIME");
  app.AddFlag("--no-generation-prompt", args->no_generation_prompt,
               "end with the last message, without the opening of an answer");
  app.AddOption("--cases", args->cases, "render every case of a JSON list into --out")
      ->TypeName("FILE");
  app.AddOption("--out", args->out, "results of --cases, in the same order")->TypeName("FILE");
  app.AddFlag("--force", args->force, "replace an existing file");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kTemplateCommand = {
    .name = "template",
    .group = "Looking inside",
    .summary = "The prompt that a model's chat template makes of a conversation",
    .example =
        "  apr template model.gguf --messages chat.json\n"
        "  apr template chat_template.jinja --cases cases.json --out results.json",
    .define = DefineTemplate,
};

}  // namespace apr
