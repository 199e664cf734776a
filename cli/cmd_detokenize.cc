// apr detokenize: token ids to text.
#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "generate/ids.h"
#include "tokenizer/token_lines.h"

namespace apr {
namespace {

struct DetokenizeArgs {
  std::string tokenizer;
  std::string ids;
  std::string ids_file;
  std::string jsonl;
  std::string out;
  bool skip_special = false;
  bool force = false;
};

int RunFile(const Tokenizer& tokenizer, const DetokenizeArgs& args, Console& console) {
  const auto start = std::chrono::steady_clock::now();
  const LineCounts counts = DetokenizeLines(tokenizer, args.jsonl, args.out, args.skip_special,
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
    console.Line(fmt::format("{}: {} lines, {} bytes of text in {:.2f} s", args.out, counts.lines, counts.text_bytes, seconds));
  }
  return 0;
}

int Run(const DetokenizeArgs& args, Console& console) {
  const int given = (args.ids.empty() ? 0 : 1) + (args.ids_file.empty() ? 0 : 1) + (args.jsonl.empty() ? 0 : 1);
  if (given != 1) throw Error(ErrorCode::kUsage, "give one of IDS, --ids-file and --jsonl");
  if (args.jsonl.empty() != args.out.empty()) throw Error(ErrorCode::kUsage, "--jsonl and --out belong together");
  const auto tokenizer = Tokenizer::Open(args.tokenizer);
  if (!args.jsonl.empty()) return RunFile(*tokenizer, args, console);
  const std::vector<int32_t> ids = args.ids.empty() ? ReadIdsFile(args.ids_file) : ParseIds(args.ids);
  const std::string text = tokenizer->Decode(ids, args.skip_special);
  if (console.json()) {
    console.Document({{"text", text}, {"count", ids.size()}});
  } else {
    console.Line(text);
  }
  return 0;
}

CommandRunner DefineDetokenize(Flags& app) {
  auto args = std::make_shared<DetokenizeArgs>();
  app.AddOption("tokenizer", args->tokenizer, "tokenizer.json, tokenizer.model, a model file or folder")
      ->Required()
      ->TypeName("TOKENIZER");
  app.AddOption("ids,--ids", args->ids, "token ids, commas between")->TypeName("IDS");
  app.AddOption("--ids-file", args->ids_file, "a file of token ids")->TypeName("FILE");
  auto* jsonl = app.AddOption("--jsonl", args->jsonl, "a file of {\"ids\": [...]} a line")->TypeName("IN");
  app.AddOption("--out", args->out, "where the {\"text\": ...} go, one a line")
      ->TypeName("OUT")
      ->Needs(jsonl);
  app.AddFlag("--skip-special", args->skip_special, "without special tokens");
  app.AddFlag("--force", args->force, "replace an existing --out")->Needs(jsonl);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kDetokenizeCommand = {
    .name = "detokenize",
    .group = "Text and tokens",
    .summary = "Token ids to text",
    .example = "  apr detokenize tokenizer.json 9707,11,1879\n"
               "  apr detokenize model.gguf --jsonl ids.jsonl --out texts.jsonl",
    .define = DefineDetokenize,
};

}  // namespace apr
