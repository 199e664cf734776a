// apr tokenize: text to token ids.
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "generate/ids.h"
#include "tokenizer/token_lines.h"

namespace apr {
namespace {

struct TokenizeArgs {
  std::string tokenizer;
  std::optional<std::string> text;
  std::string file;
  std::string jsonl;
  std::string out;
  bool add_special = false;
  bool parse_special = false;
  bool offsets = false;
  bool force = false;
};

EncodeOptions OptionsOf(const TokenizeArgs& args) {
  return {.add_special = args.add_special, .parse_special = args.parse_special, .offsets = args.offsets};
}

int RunOne(const Tokenizer& tokenizer, std::string_view text, const TokenizeArgs& args, Console& console) {
  if (console.json()) {
    console.Document(TokenizeToJson(tokenizer, text, OptionsOf(args)));
    return 0;
  }
  const Encoding encoding = tokenizer.Encode(text, OptionsOf(args));
  if (!console.verbose() && !args.offsets) {
    console.Line(FormatIds(encoding.ids));
    return 0;
  }
  TextTable table("><<");
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    const int32_t id = encoding.ids[i];
    const std::string piece = DumpJson(Json(tokenizer.IdToPiece(id).value_or("")), -1);
    table.Row({std::to_string(id), piece,
               args.offsets ? fmt::format("{}..{}", encoding.spans[i].begin, encoding.spans[i].end) : ""});
  }
  console.Text(table.ToString());
  return 0;
}

int RunLines(const Tokenizer& tokenizer, const TokenizeArgs& args, Console& console) {
  const auto start = std::chrono::steady_clock::now();
  const LineCounts counts = TokenizeLines(tokenizer, args.jsonl, args.out, OptionsOf(args),
                                          args.force ? Overwrite::kAllow : Overwrite::kRefuse);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (console.json()) {
    console.Document({{"in", args.jsonl},
                      {"out", args.out},
                      {"lines", counts.lines},
                      {"tokens", counts.tokens},
                      {"text_bytes", counts.text_bytes},
                      {"seconds", seconds}});
  } else {
    console.Line(fmt::format("{}: {} lines, {} bytes of text, {} tokens in {:.2f} s", args.out, counts.lines,
                             counts.text_bytes, counts.tokens, seconds));
  }
  return 0;
}

int Run(const TokenizeArgs& args, Console& console) {
  if (int{args.text.has_value()} + int{!args.file.empty()} + int{!args.jsonl.empty()} != 1) {
    throw Error(ErrorCode::kUsage, "give one of TEXT, --file and --jsonl");
  }
  if (args.jsonl.empty() != args.out.empty()) throw Error(ErrorCode::kUsage, "--jsonl and --out belong together");
  const auto tokenizer = Tokenizer::Open(args.tokenizer);
  if (!args.jsonl.empty()) return RunLines(*tokenizer, args, console);
  if (args.text) return RunOne(*tokenizer, *args.text, args, console);
  const auto file = MappedFile::Open(args.file);
  return RunOne(*tokenizer, AsText(file->bytes()), args, console);
}

CommandRunner DefineTokenize(Flags& app) {
  auto args = std::make_shared<TokenizeArgs>();
  app.AddOption("tokenizer", args->tokenizer, "tokenizer.json, tokenizer.model, a model file or folder")
      ->Required()
      ->TypeName("TOKENIZER");
  auto* text = app.AddOption("text", args->text, "the text")->TypeName("TEXT");
  auto* file = app.AddOption("--file", args->file, "a file whose bytes are the text")->TypeName("FILE")->Excludes(text);
  auto* jsonl = app.AddOption("--jsonl", args->jsonl, "a file of {\"text\": ...} a line")
                    ->TypeName("IN")
                    ->Excludes(text)
                    ->Excludes(file);
  app.AddOption("--out", args->out, "where the {\"ids\": [...]} go, one a line")
      ->TypeName("OUT")
      ->Needs(jsonl);
  app.AddFlag("--add-special", args->add_special, "with what the tokenizer puts around a text (BOS, EOS, ...)");
  app.AddFlag("--parse-special", args->parse_special, "special tokens written in the text become that token");
  app.AddFlag("--offsets", args->offsets, "with the bytes of the text that each id stands for");
  app.AddFlag("--force", args->force, "replace an existing --out")->Needs(jsonl);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kTokenizeCommand = {
    .name = "tokenize",
    .group = "Text and tokens",
    .summary = "Text to token ids",
    .example = "  apr tokenize tokenizer.json \"Hello, world\" --json\n"
               "  apr tokenize models/smollm2 --file README.md --offsets\n"
               "  apr tokenize model.gguf --jsonl texts.jsonl --out ids.jsonl --add-special",
    .define = DefineTokenize,
};

}  // namespace apr
