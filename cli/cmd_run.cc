// apr run: continues a text, or answers it where the model is one for chats.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "cli/prompt.h"
#include "cli/sampling_flags.h"
#include "generate/chat_prompt.h"
#include "generate/generate.h"
#include "generate/text_stream.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

struct RunArgs {
  std::string model;
  PromptFlags prompt;
  std::optional<std::string> positional;
  ComputeFlags compute;
  SamplingFlags sampling;
  int64_t max_tokens = 32;
  int64_t context = 0;
  int64_t chunk = 512;
  bool ignore_eos = false;
  bool raw = false;
  std::string system;
  std::string batch;  // a file of {"prompt", "task_id"} lines
};

// What one run works with.
struct Setup {
  OpenedModel opened;
  std::shared_ptr<const Tokenizer> tokenizer;  // nullptr: the model has none
  std::vector<int32_t> stop_ids;
};

// One prompt and what became of it.
struct Answer {
  PromptTokens prompt;
  GenerateResult result;
  std::optional<std::string> text;  // nullopt: the model has no tokenizer
};

SessionOptions OptionsOf(const RunArgs& args) {
  SessionOptions options = ToSessionOptions(args.compute);
  options.chunk = args.chunk;
  options.context = args.context;
  return options;
}

// The most tokens a sequence may have: what was asked for, else what the model was made for.
int64_t ContextOf(const RunArgs& args, const Model& model, Console& console) {
  const int64_t own = model.config().max_positions;
  if (args.context > own && own > 0) {
    console.Warn(fmt::format("--context {} is more than the {} tokens the model declares", args.context, own));
  }
  return args.context > 0 ? args.context : own;
}

// Text is a message to a model that expects conversations, else the beginning of what it continues.
PromptTokens MakePrompt(const RunArgs& args, const PromptFlags& flags, const Setup& setup, Console& console) {
  const ModelFile& file = setup.opened.model->file();
  if (!flags.text) return {.ids = PromptIds(flags, *setup.opened.model)};
  if (setup.tokenizer == nullptr) throw Error(ErrorCode::kModelLoad, "the model has no tokenizer: give --ids", {.file = args.model});
  if (args.raw || !HasChatTemplate(file)) {
    if (!args.system.empty()) throw Error(ErrorCode::kUsage, "--system: the model has no chat template");
    return PlainPrompt(*setup.tokenizer, *flags.text);
  }
  Json messages = Json::array();
  if (!args.system.empty()) messages.push_back({{"role", "system"}, {"content", args.system}});
  messages.push_back({{"role", "user"}, {"content", *flags.text}});
  PromptTokens prompt = ChatPrompt(file, *setup.tokenizer, messages);
  console.Note(fmt::format("the prompt is a message to a chat model: template of {} applied (--raw: none)", prompt.template_name));
  return prompt;
}

Setup Prepare(const RunArgs& args, Console& console) {
  Setup setup;
  SessionOptions options = OptionsOf(args);
  setup.opened = OpenModel(args.model, options, console);
  setup.opened.session->set_context(ContextOf(args, *setup.opened.model, console));
  setup.tokenizer = Tokenizer::FromModelFile(setup.opened.model->file());
  if (!args.ignore_eos) setup.stop_ids = StopTokens(*setup.opened.model, setup.tokenizer.get(), console);
  return setup;
}

// What is said of every answer, alone or in a batch.
Json AnswerFields(const Answer& answer) {
  const GenerateResult& result = answer.result;
  return {{"text", answer.text ? Json(*answer.text) : Json(nullptr)},
          {"tokens", result.ids},
          {"tokens_generated", result.ids.size()},
          {"stop_reason", StopReasonName(result.reason)},
          {"prompt_tokens", answer.prompt.ids.size()},
          {"prompt_ids", answer.prompt.ids},
          {"chat_template", answer.prompt.template_name.empty() ? Json(nullptr) : Json(answer.prompt.template_name)},
          {"tok_per_sec", result.DecodeRate()},
          {"prompt_tok_per_sec", result.PromptRate()},
          {"first_token_ms", result.first_token_seconds * 1e3},
          {"inference_time_ms", (result.first_token_seconds + result.decode_seconds) * 1e3}};
}

// What is said of the run.
void AddRunFields(const RunArgs& args, const Setup& setup, Json& out) {
  out["max_tokens"] = args.max_tokens;
  out["load_ms"] = setup.opened.load_ms;
  out["peak_rss_mb"] = PeakResidentMb();
  out["used_gpu"] = false;
  out["cached"] = false;
  out["backend"] = {{"requested", args.compute.device}, {"ran", "cpu"}, {"fell_back", false}};
  AddComputeFields(*setup.opened.session, out);
}

void PrintFigures(const Setup& setup, const Answer& answer, Console& console) {
  const GenerateResult& result = answer.result;
  if (result.reason == StopReason::kContext) {
    console.Warn(fmt::format("the context of {} tokens is full", setup.opened.session->context()));
  }
  const std::string line = fmt::format(
      "{} prompt tokens at {:.1f} tok/s, {} new at {:.1f} tok/s, first after {:.0f} ms, load {:.0f} ms ({}, precision {}, {} threads)",
      result.prompt_tokens, result.PromptRate(), result.ids.size(), result.DecodeRate(), result.first_token_seconds * 1e3,
      setup.opened.load_ms, StopReasonName(result.reason), PrecisionInForce(*setup.opened.session),
      setup.opened.session->executor().threads());
  if (console.terminal() && !console.quiet() && !console.json()) std::fprintf(stderr, "\n[%s]\n", line.c_str());
  else console.Note(line);
}

// `on_text` receives the answer as it comes.
Answer Continue(const RunArgs& args, const Setup& setup, PromptTokens prompt,
                const std::function<void(const std::string&)>& on_text) {
  Answer answer{.prompt = std::move(prompt)};
  Session& session = *setup.opened.session;
  Sampler sampler(ToSamplerOptions(args.sampling));
  TextStream text(setup.tokenizer.get(), answer.prompt.ids);
  auto progress = std::make_unique<Progress>("prompt", answer.prompt.ids.size());
  const GenerateRequest request{
      .sequence = session.NewSequence(),
      .prompt = answer.prompt.ids,
      .max_tokens = args.max_tokens,
      .stop_ids = setup.stop_ids,
      .on_token = [&](int32_t id) {
        progress.reset();
        const bool end = std::ranges::find(setup.stop_ids, id) != setup.stop_ids.end();
        if (!end) on_text(text.Push(id));
        return true;
      },
      .hooks = {.progress = [&](int64_t n) { if (progress) progress->Add(static_cast<uint64_t>(n)); },
                .cancelled = InterruptGuard::Raised}};
  answer.result = Generate(session, sampler, request);
  progress.reset();
  on_text(text.Finish());
  session.FreeSequence(request.sequence);
  if (setup.tokenizer != nullptr) answer.text = text.text();
  return answer;
}

int RunOne(const RunArgs& args, const Setup& setup, Console& console) {
  const Answer answer = Continue(args, setup, MakePrompt(args, args.prompt, setup, console), [&](const std::string& text) {
    console.Text(text);
    console.Flush();
  });
  console.Line("");
  console.Flush();
  PrintFigures(setup, answer, console);
  if (console.json()) {
    Json out = {{"model", args.model}};
    out.update(AnswerFields(answer));
    AddRunFields(args, setup, out);
    console.Document(out);
  }
  return answer.result.reason == StopReason::kCancelled ? ExitCode(ErrorCode::kCancelled) : 0;
}

// One line of a batch; an error of its own does not end the others.
Json RunLine(const RunArgs& args, const Setup& setup, const Json& line, std::optional<Error>& failed, Console& console) {
  Json out = {{"task_id", line.contains("task_id") ? line["task_id"] : Json(nullptr)}};
  try {
    if (!line.contains("prompt") || !line["prompt"].is_string()) {
      throw Error(ErrorCode::kInvalidFormat, "the line has no text under \"prompt\"", {.file = args.batch});
    }
    const PromptFlags flags{.ids = {}, .ids_file = {}, .text = line["prompt"].get<std::string>()};
    out.update(AnswerFields(Continue(args, setup, MakePrompt(args, flags, setup, console), [](const std::string&) {})));
  } catch (const Error& error) {
    failed = error;
    out["error"] = error.what();
    console.Warn(error.what());
  }
  return out;
}

// Every line of the file with one load of the model, each on a sequence of its own.
int RunBatch(const RunArgs& args, const Setup& setup, Console& console) {
  const auto mapped = MappedFile::Open(args.batch);
  const std::string_view text = AsText(mapped->bytes());
  Json results = Json::array();
  std::optional<Error> failed;
  size_t prompts = 0, ok = 0, tokens = 0;
  for (size_t at = 0; at < text.size() && !InterruptGuard::Raised();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    Json result = RunLine(args, setup, ParseJson(line, args.batch), failed, console);
    ++prompts;
    ok += result.contains("error") ? 0 : 1;
    tokens += result.contains("tokens") ? result["tokens"].size() : 0;
    console.Line(DumpJson(result, -1));
    console.Flush();
    if (console.json()) results.push_back(std::move(result));
  }
  std::fprintf(stderr, "apr: batch: %zu prompts, %zu ok, %zu failed, %zu tokens, load %.2f s\n", prompts, ok, prompts - ok,
               tokens, setup.opened.load_ms / 1e3);
  if (console.json()) {
    Json out = {{"model", args.model}, {"prompts", prompts}, {"ok", ok}, {"failed", prompts - ok}, {"tokens", tokens}};
    out["results"] = std::move(results);
    AddRunFields(args, setup, out);
    console.Document(out);
  }
  if (InterruptGuard::Raised()) return ExitCode(ErrorCode::kCancelled);
  return failed ? ExitCode(failed->code()) : 0;
}

void CheckFlags(const RunArgs& args) {
  if (args.batch.empty()) RequireOnePrompt(args.prompt);
  else if (args.prompt.given() > 0) throw Error(ErrorCode::kUsage, "--batch-jsonl brings its own prompts");
  if (args.system.empty()) return;
  if (args.raw) throw Error(ErrorCode::kUsage, "--system needs the chat template that --raw leaves out");
  if (args.batch.empty() && !args.prompt.text) throw Error(ErrorCode::kUsage, "--system goes with a text, not with ids");
}

int Run(RunArgs args, Console& console) {
  if (args.positional && args.prompt.text) throw Error(ErrorCode::kUsage, "PROMPT and -p exclude each other");
  if (args.positional) args.prompt.text = args.positional;
  CheckFlags(args);
  const Sampler check(ToSamplerOptions(args.sampling));  // its errors before the model is loaded
  const Setup setup = Prepare(args, console);
  const InterruptGuard guard;
  return args.batch.empty() ? RunOne(args, setup, console) : RunBatch(args, setup, console);
}

CommandRunner Define(Flags& app) {
  auto args = std::make_shared<RunArgs>();
  app.AddOption("model", args->model, "file or folder")->Required()->TypeName("MODEL");
  app.AddOption("text", args->positional, "the prompt")->TypeName("PROMPT");
  AddPromptFlags(app, args->prompt);
  app.AddOption("-n,--max-tokens", args->max_tokens, "most tokens to make (32)")
      ->Verify(Check::Range(int64_t{0}, int64_t{1} << 40))
      ->TypeName("N");
  app.AddOption("--batch-jsonl", args->batch, "answer every {\"prompt\", \"task_id\"} line of a file with one load of the model")
      ->TypeName("FILE");
  app.AddFlag("--ignore-eos", args->ignore_eos, "go on past the tokens that end a text");
  app.AddFlag("--raw,--no-template", args->raw, "the prompt as it stands, no chat template");
  app.AddOption("--system", args->system, "the system message of the chat")->TypeName("TEXT");
  app.AddOption("--context", args->context, "most tokens of prompt and answer (default: the model's)")
      ->Verify(Check::Range(1, INT32_MAX))
      ->TypeName("N");
  app.AddOption("--chunk", args->chunk, "tokens of the prompt per pass; changes no result")
      ->Verify(Check::Range(1, INT32_MAX))
      ->TypeName("N");
  AddSamplingFlags(app, args->sampling);
  AddComputeFlags(app, args->compute);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kRunCommand = {
    .name = "run",
    .group = "Running",
    .summary = "Continues a text, or answers it where the model has a chat template",
    .example = "  apr run model.gguf \"What is 2+2?\" -n 64\n"
               "  apr run model.gguf --ids 1,2,3 -n 16 --temperature 0 --ignore-eos --json",
    .define = Define,
};

}  // namespace apr
