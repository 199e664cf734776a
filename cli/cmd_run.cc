// apr run: continues a text, or answers it where the model is one for chats.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "cli/prompt.h"
#include "cli/sampling_flags.h"
#include "generate/chat_prompt.h"
#include "generate/prompt_cache.h"
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
  std::string on_full = "stop";
  int64_t keep = 0;
  int64_t chunk = 512;
  bool ignore_eos = false;
  bool raw = false;
  std::string system;
  std::string batch;  // a file of {"prompt", "task_id"} lines
  int64_t parallel = 4;
  std::string prompt_cache;
};

// What one run works with.
struct Setup {
  OpenedModel opened;
  std::shared_ptr<const Tokenizer> tokenizer;  // nullptr: the model has none
  AnswerOptions options;
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

void SetUpGrammar(std::shared_ptr<const Grammar> grammar, Setup& setup) {
  setup.options.grammar = std::move(grammar);
  if (!setup.options.grammar) return;
  if (setup.tokenizer == nullptr) throw Error(ErrorCode::kModelLoad, "a grammar needs the model's tokenizer, and it has none");
  setup.options.trie = std::make_shared<const TokenTrie>(
      TokenTrie::FromTokenizer(*setup.tokenizer, setup.opened.model->config().vocab_size));
}

Setup Prepare(const RunArgs& args, Console& console) {
  auto grammar = ReadGrammar(args.sampling);  // its errors before the model is loaded
  Setup setup;
  setup.opened = OpenModel(args.model, OptionsOf(args), console);
  setup.opened.session->set_context(ContextOf(args, *setup.opened.model, console));
  setup.tokenizer = Tokenizer::FromModelFile(setup.opened.model->file());
  AnswerOptions& options = setup.options;
  if (!args.ignore_eos) options.stop_ids = StopTokens(*setup.opened.model, setup.tokenizer.get(), console);
  options.sampler = ToSamplerOptions(args.sampling, setup.tokenizer.get(), setup.opened.model->config().vocab_size);
  options.stops = args.sampling.stops;
  options.max_tokens = args.max_tokens;
  if (args.on_full == "slide") options.slide_keep = args.keep;
  options.on_slide = [&console, &args, context = setup.opened.session->context()](int64_t dropped) {
    console.Warn(fmt::format("the context of {} tokens is full: {} tokens behind the first {} are forgotten", context, dropped, args.keep));
  };
  options.hooks.cancelled = InterruptGuard::Raised;
  SetUpGrammar(std::move(grammar), setup);
  return setup;
}

// What is said of the run.
void AddRunFields(const RunArgs& args, const Setup& setup, Json& out) {
  out["max_tokens"] = args.max_tokens;
  out["context"] = setup.opened.session->context();
  out["on_full"] = args.on_full;
  out["load_ms"] = setup.opened.load_ms;
  out["peak_rss_mb"] = PeakResidentMb();
  out["used_gpu"] = false;
  out["backend"] = {{"requested", args.compute.device}, {"ran", "cpu"}, {"fell_back", false}};
  AddComputeFields(*setup.opened.session, out);
}

void PrintFigures(const Setup& setup, const GenerateResult& result, Console& console) {
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

// The file of --prompt-cache: read before, written after where the sequence holds more than it did.
class CacheFile {
 public:
  CacheFile(const RunArgs& args, Session& session) : path_(args.prompt_cache), session_(session) {
    if (!path_.empty()) digest_ = CacheDigest(session);
  }
  // How many tokens of the prompt came from the file.
  int64_t Restore(int sequence, std::span<const int32_t> prompt, Console& console) {
    if (path_.empty() || !std::filesystem::exists(path_)) return 0;
    restored_ = RestorePromptCache(session_, sequence, digest_, path_, prompt);
    console.Note(fmt::format("{}: {} of {} prompt tokens restored", path_, restored_, prompt.size()));
    return restored_;
  }
  void Save(int sequence, Console& console) {
    if (path_.empty() || session_.ids(sequence).empty()) return;
    SavePromptCache(session_, sequence, digest_, path_, Overwrite::kAllow);
    console.Note(fmt::format("{}: {} tokens saved", path_, session_.ids(sequence).size()));
  }

 private:
  std::string path_;
  Session& session_;
  uint64_t digest_ = 0;
  int64_t restored_ = 0;
};

int RunOne(const RunArgs& args, Setup& setup, Console& console) {
  Session& session = *setup.opened.session;
  PromptTokens prompt = MakePrompt(args, args.prompt, setup, console);
  CacheFile cache(args, session);
  const int sequence = session.NewSequence();
  const int64_t held = cache.Restore(sequence, prompt.ids, console);
  auto progress = std::make_unique<Progress>("prompt", prompt.ids.size() - static_cast<size_t>(held));
  setup.options.hooks.progress = [&](int64_t n) { if (progress) progress->Add(static_cast<uint64_t>(n)); };
  Answer answer(session, sequence, setup.tokenizer.get(), std::move(prompt), held, setup.options, [&](const std::string& text) {
    progress.reset();
    console.Text(text);
    console.Flush();
  });
  CompleteAnswer(session, answer);
  progress.reset();
  console.Line("");
  console.Flush();
  cache.Save(sequence, console);
  PrintFigures(setup, answer.result(), console);
  if (console.json()) {
    Json out = {{"model", args.model}};
    out.update(answer.Fields());
    out["cached"] = held > 0;
    AddRunFields(args, setup, out);
    console.Document(out);
  }
  return answer.result().reason == StopReason::kCancelled ? ExitCode(ErrorCode::kCancelled) : 0;
}

// Lines of a batch on their way: some at once, answered in the order of the file. An error of one does not end the
// others.
class Batch {
 public:
  Batch(const RunArgs& args, const Setup& setup, Console& console) : args_(args), setup_(setup), console_(console), file_(MappedFile::Open(args.batch)) {}

  void Run() {
    GenerateTogether(
        *setup_.opened.session, static_cast<size_t>(args_.parallel), [&] { return Next(); },
        [&](Generation& one, const std::optional<Error>& error) { Finished(one, error); }, setup_.options.hooks);
    Print(lines_.size());
  }

  size_t prompts() const { return lines_.size(); }
  size_t ok() const { return ok_; }
  size_t tokens() const { return tokens_; }
  const std::optional<Error>& failed() const { return failed_; }
  Json& results() { return results_; }

 private:
  struct Line {
    Json result;
    std::unique_ptr<Answer> answer;
    bool done = false;
  };

  // The next line that can run; lines that cannot are done at once.
  Generation* Next() {
    const std::string_view text = AsText(file_->bytes());
    while (at_ < text.size() && !InterruptGuard::Raised()) {
      const size_t end = std::min(text.find('\n', at_), text.size());
      const std::string_view line = text.substr(at_, end - at_);
      at_ = end + 1;
      ++line_number_;
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      lines_.emplace_back();
      try {
        Begin(line, lines_.back());
        return &lines_.back().answer->generation();
      } catch (const Error& error) {
        Fail(lines_.back(), error);
      }
    }
    return nullptr;
  }

  void Begin(std::string_view text, Line& line) {
    line.result = {{"task_id", nullptr}};
    const std::string where = fmt::format("{}:{}", args_.batch, line_number_);
    const Json json = ParseJson(text, where);
    if (!json.is_object()) throw Error(ErrorCode::kInvalidFormat, "the line is no JSON object", {.file = where});
    if (json.contains("task_id")) line.result["task_id"] = json["task_id"];
    if (!json.contains("prompt") || !json["prompt"].is_string()) {
      throw Error(ErrorCode::kInvalidFormat, "the line has no text under \"prompt\"", {.file = where});
    }
    const PromptFlags flags{.ids = {}, .ids_file = {}, .text = json["prompt"].get<std::string>()};
    PromptTokens prompt = MakePrompt(args_, flags, setup_, console_);
    Session& session = *setup_.opened.session;
    const int sequence = session.NewSequence();
    try {
      line.answer = std::make_unique<Answer>(session, sequence, setup_.tokenizer.get(), std::move(prompt), 0, setup_.options,
                                             [](const std::string&) {});
    } catch (...) {
      session.FreeSequence(sequence);
      throw;
    }
  }

  void Fail(Line& line, const Error& error) {
    failed_ = error;
    line.result["error"] = error.what();
    line.done = true;
    console_.Warn(error.what());
  }

  void Finished(Generation& one, const std::optional<Error>& error) {
    for (size_t i = printed_; i < lines_.size(); ++i) {
      Line& line = lines_[i];
      if (line.answer == nullptr || &line.answer->generation() != &one) continue;
      setup_.opened.session->FreeSequence(one.sequence());
      if (error) {
        Fail(line, *error);
      } else {
        line.answer->Finish();
        line.result.update(line.answer->Fields());
        tokens_ += one.result().ids.size();
        ++ok_;
      }
      line.answer.reset();
      line.done = true;
      break;
    }
    size_t ready = printed_;
    while (ready < lines_.size() && lines_[ready].done) ++ready;
    Print(ready);
  }

  void Print(size_t end) {
    for (; printed_ < end; ++printed_) {
      Json& result = lines_[printed_].result;
      console_.Line(DumpJson(result, -1));
      console_.Flush();
      if (console_.json()) results_.push_back(std::move(result));
      result = nullptr;
    }
  }

  const RunArgs& args_;
  const Setup& setup_;
  Console& console_;
  std::shared_ptr<const MappedFile> file_;
  size_t at_ = 0;
  size_t line_number_ = 0;  // of the last line read, from 1
  std::deque<Line> lines_;
  size_t printed_ = 0;
  size_t ok_ = 0, tokens_ = 0;
  std::optional<Error> failed_;
  Json results_ = Json::array();
};

// Every line of the file with one load of the model, each on a sequence of its own.
int RunBatch(const RunArgs& args, const Setup& setup, Console& console) {
  Batch batch(args, setup, console);
  batch.Run();
  std::fprintf(stderr, "apr: batch: %zu prompts, %zu ok, %zu failed, %zu tokens, load %.2f s\n", batch.prompts(), batch.ok(),
               batch.prompts() - batch.ok(), batch.tokens(), setup.opened.load_ms / 1e3);
  if (console.json()) {
    Json out = {{"model", args.model}, {"prompts", batch.prompts()}, {"ok", batch.ok()}, {"failed", batch.prompts() - batch.ok()}, {"tokens", batch.tokens()}};
    out["parallel"] = args.parallel;
    out["results"] = std::move(batch.results());
    AddRunFields(args, setup, out);
    console.Document(out);
  }
  if (InterruptGuard::Raised()) return ExitCode(ErrorCode::kCancelled);
  return batch.failed() ? ExitCode(batch.failed()->code()) : 0;
}

void CheckFlags(const RunArgs& args) {
  if (args.batch.empty()) RequireOnePrompt(args.prompt);
  else if (args.prompt.given() > 0) throw Error(ErrorCode::kUsage, "--batch-jsonl brings its own prompts");
  if (!args.batch.empty() && !args.prompt_cache.empty()) throw Error(ErrorCode::kUsage, "--prompt-cache goes with one prompt");
  if (args.keep > 0 && args.on_full != "slide") throw Error(ErrorCode::kUsage, "--keep goes with --on-full slide");
  if (args.system.empty()) return;
  if (args.raw) throw Error(ErrorCode::kUsage, "--system needs the chat template that --raw leaves out");
  if (args.batch.empty() && !args.prompt.text) throw Error(ErrorCode::kUsage, "--system goes with a text, not with ids");
}

int Run(RunArgs args, Console& console) {
  if (args.positional && args.prompt.text) throw Error(ErrorCode::kUsage, "PROMPT and -p exclude each other");
  if (args.positional) args.prompt.text = args.positional;
  CheckFlags(args);
  CheckSamplingFlags(args.sampling);
  Setup setup = Prepare(args, console);
  const InterruptGuard guard;
  return args.batch.empty() ? RunOne(args, setup, console) : RunBatch(args, setup, console);
}

CommandRunner DefineRun(Flags& app) {
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
  app.AddOption("--on-full", args->on_full, "a full context: stop ends the answer, slide forgets the older half")
      ->Verify(Check::OneOf({"stop", "slide"}))
      ->TypeName("WHAT");
  app.AddOption("--keep", args->keep, "tokens at the beginning that slide never forgets")->Verify(Check::Range(0, INT32_MAX))->TypeName("N");
  app.AddOption("--parallel", args->parallel, "lines of a batch that run at once (4); changes no answer")
      ->Verify(Check::Range(1, 1024))
      ->TypeName("N");
  app.AddOption("--prompt-cache", args->prompt_cache, "restores what this file and the prompt have in common; then saves what the sequence holds")
      ->TypeName("FILE");
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
               "  apr run model.gguf --ids 1,2,3 -n 16 --temperature 0 --ignore-eos --json\n"
               "  apr run model.gguf \"Name a city.\" --json-schema city.json",
    .define = DefineRun,
};

}  // namespace apr
