// apr chat: a conversation with a chat model.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/line_input.h"
#include "cli/model_flags.h"
#include "cli/prompt.h"
#include "cli/sampling_flags.h"
#include "eval/log_softmax.h"
#include "generate/chat.h"

namespace apr {
namespace {

struct ChatArgs {
  std::string model;
  ComputeFlags compute;
  SamplingFlags sampling;
  ChatOptions chat;
  int64_t context = 0;
  bool inspect = false;
};

constexpr const char* kHelp =
    "/help            this list\n"
    "/clear           forget the conversation\n"
    "/system TEXT     another system message; forgets the conversation\n"
    "/undo            take back the last message and its answer\n"
    "/history         what was said, as JSON\n"
    "/save FILE       the same into a file\n"
    "/load FILE       go on from what was saved\n"
    "/exit, /quit     end (so does Ctrl-D); Ctrl-C stops an answer\n";

// One conversation at the keyboard.
class Talk {
 public:
  Talk(Chat& chat, Console& console) : chat_(chat), console_(console) {}

  // Shows after each answer what its tokens were drawn from.
  void Inspect(Sampler& sampler, const Tokenizer& tokenizer) {
    sampler.set_observer([this, &tokenizer](const TensorView& logits, int32_t id) {
      constexpr size_t kShown = 4;
      const auto quoted = [&](int32_t token) { return DumpJson(Json(tokenizer.TokenBytes(token)), -1); };
      LogSoftmax all;
      all.Load(logits, 0);
      std::vector<std::string> row = {quoted(id), fmt::format("{:.4f}", std::exp(all.LogProbability(id)))};
      for (const TokenProbability& t : TopTokens(logits, kShown)) {
        row.push_back(t.id == id ? "" : fmt::format("{} {:.4f}", quoted(t.id), t.probability));
      }
      row.resize(2 + kShown);
      inspected_.Row(std::move(row));
    });
    inspect_ = true;
  }

  // False: the conversation is over.
  bool Handle(const std::string& line) {
    if (line.find_first_not_of(" \t") == line.npos) return true;
    try {
      if (line[0] == '/') return Obey(line);
      Answer(line);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kIo && error.context().file == "standard output") throw;
      if (line[0] != '/') {
        failed_ = error;
        turns_.push_back({{"user", line}, {"error", error.what()}});
      }
      std::fprintf(stderr, "apr: error: %s\n", error.what());
    }
    return true;
  }

  const Json& turns() const { return turns_; }
  const std::optional<Error>& failed() const { return failed_; }

 private:
  void Answer(const std::string& line) {
    InterruptGuard::Clear();
    const ChatReply reply = chat_.Say(
        line,
        [&](const std::string& text) {
          console_.Text(text);
          console_.Flush();
        },
        {.progress = nullptr, .cancelled = InterruptGuard::Raised});
    const GenerateResult& r = reply.result;
    console_.Line(r.reason == StopReason::kCancelled ? " [interrupted]" : "");
    console_.Note(fmt::format("{} prompt tokens, {} of them kept; {} new at {:.1f} tok/s ({})", r.prompt_tokens + reply.reused_tokens,
                              reply.reused_tokens, r.ids.size(), r.DecodeRate(), StopReasonName(r.reason)));
    if (inspect_) {
      console_.Text(std::exchange(inspected_, TextTable("<><<<<")).ToString());
      console_.Line(fmt::format("{} prompt tokens at {:.1f} tok/s, {} new at {:.1f} tok/s", r.prompt_tokens, r.PromptRate(), r.ids.size(), r.DecodeRate()));
    }
    if (r.reason == StopReason::kContext) console_.Warn("the context is full: /clear begins anew");
    turns_.push_back({{"user", line},
                      {"assistant", reply.text},
                      {"tokens", r.ids},
                      {"stop_reason", StopReasonName(r.reason)},
                      {"reused_tokens", reply.reused_tokens},
                      {"tok_per_sec", r.DecodeRate()},
                      {"prompt_tok_per_sec", r.PromptRate()}});
    InterruptGuard::Clear();
  }

  void Undo() {
    if (!chat_.Undo()) throw Error(ErrorCode::kUsage, "nothing was said yet");
  }

  bool Obey(const std::string& line) {
    const size_t blank = std::min(line.find(' '), line.size());
    const std::string name = line.substr(0, blank);
    const std::string rest = blank < line.size() ? line.substr(blank + 1) : "";
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/help") console_.Text(kHelp);
    else if (name == "/clear") chat_.Clear();
    else if (name == "/system") chat_.SetSystem(rest);
    else if (name == "/undo") Undo();
    else if (name == "/load" && !rest.empty()) chat_.LoadHistory(std::string(AsText(MappedFile::Open(rest)->bytes())), rest);
    else if (name == "/history") console_.Text(chat_.HistoryJson());
    else if (name == "/save" && !rest.empty()) WriteTextFile(rest, chat_.HistoryJson(), Overwrite::kRefuse);
    else throw Error(ErrorCode::kUsage, fmt::format("no command '{}' (/help lists them)", line));
    return true;
  }

  Chat& chat_;
  Console& console_;
  Json turns_ = Json::array();
  std::optional<Error> failed_;
  bool inspect_ = false;
  TextTable inspected_{"<><<<<"};
};

int Run(const ChatArgs& args, Console& console) {
  CheckSamplingFlags(args.sampling);
  auto grammar = ReadGrammar(args.sampling);
  const OpenedModel opened = OpenModel(args.model, ToSessionOptions(args.compute), console);
  Session& session = *opened.session;
  const int64_t own = opened.model->config().max_positions;
  session.set_context(args.context > 0 ? args.context : own);
  if (args.context > own && own > 0) {
    console.Warn(fmt::format("--context {} is more than the {} tokens the model declares", args.context, own));
  }
  const auto tokenizer = Tokenizer::FromModelFile(opened.model->file());
  if (tokenizer == nullptr) throw Error(ErrorCode::kModelLoad, "the model has no tokenizer", {.file = args.model});
  Sampler sampler(ToSamplerOptions(args.sampling, tokenizer.get(), opened.model->config().vocab_size));
  ChatOptions options = args.chat;
  options.stop_ids = StopTokens(*opened.model, tokenizer.get(), console);
  options.stops = args.sampling.stops;
  options.grammar = std::move(grammar);
  if (options.grammar) {
    options.trie = std::make_shared<const TokenTrie>(TokenTrie::FromTokenizer(*tokenizer, opened.model->config().vocab_size));
  }
  Chat chat(session, *tokenizer, sampler, options);

  const InterruptGuard guard;
  Talk talk(chat, console);
  if (args.inspect) talk.Inspect(sampler, *tokenizer);
  LineInput input(console.Styled(Style::kBold, "> "));
  if (input.terminal()) console.Line("Type a message, or /help.");
  while (const auto line = input.Read()) {
    if (!talk.Handle(*line)) break;
  }
  if (console.json()) {
    Json out = {{"model", args.model}, {"turns", talk.turns()}, {"load_ms", opened.load_ms}};
    AddComputeFields(session, out);
    console.Document(out);
  }
  return talk.failed() ? ExitCode(talk.failed()->code()) : 0;
}

CommandRunner DefineChat(Flags& app) {
  auto args = std::make_shared<ChatArgs>();
  args->sampling.options.temperature = 0.7;
  args->sampling.options.top_p = 0.9;
  app.AddOption("model", args->model, "file or folder")->Required()->TypeName("MODEL");
  app.AddOption("--system", args->chat.system, "the system message")->TypeName("TEXT");
  app.AddOption("-n,--max-tokens", args->chat.max_tokens, "most tokens of an answer (512)")
      ->Verify(Check::Range(1, INT32_MAX))
      ->TypeName("N");
  app.AddOption("--context", args->context, "most tokens of the conversation (default: the model's)")
      ->Verify(Check::Range(1, INT32_MAX))
      ->TypeName("N");
  app.AddFlag("--inspect", args->inspect, "after each answer its tokens with their probabilities, the other candidates, and speeds");
  AddSamplingFlags(app, args->sampling);
  AddComputeFlags(app, args->compute);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kChatCommand = {
    .name = "chat",
    .group = "Running",
    .summary = "A conversation: messages from the terminal or, one a line, from standard input",
    .example = "  apr chat model.gguf --system \"Answer briefly.\"\n"
               "  echo \"What is 2+2?\" | apr chat model.gguf --temperature 0",
    .define = DefineChat,
};

}  // namespace apr
