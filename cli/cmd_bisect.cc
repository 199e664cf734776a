// apr bisect: where two runs of a model first differ, and why.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/model_flags.h"
#include "cli/version.h"
#include "compare/bisect/bisection.h"
#include "compare/bisect/bundle.h"
#include "compare/bisect/html.h"
#include "generate/ids.h"

namespace apr {
namespace {

struct BisectArgs {
  bisect::Options options;
  PromptFlags prompt;
  std::string phases;
  bool no_cause = false;
  std::string html, bundle;
  bool force = false;
};

bisect::Options ToOptions(const BisectArgs& args) {
  bisect::Options out = args.options;
  if (args.prompt.given() + (out.messages.empty() ? 0 : 1) > 1) {
    throw Error(ErrorCode::kUsage, "--ids, --ids-file, -p and --messages exclude each other");
  }
  if (!args.prompt.ids.empty()) out.ids = ParseIds(args.prompt.ids);
  if (!args.prompt.ids_file.empty()) out.ids = ReadIdsFile(args.prompt.ids_file);
  if (args.prompt.text) {
    if (args.prompt.text->empty()) throw Error(ErrorCode::kUsage, "the prompt is empty: no tokens to run");
    out.text = *args.prompt.text;
  }
  for (size_t at = 0; !args.phases.empty() && at <= args.phases.size();) {
    const size_t comma = std::min(args.phases.find(',', at), args.phases.size());
    const std::string name = args.phases.substr(at, comma - at);
    at = comma + 1;
    const auto phase = bisect::PhaseFromName(name);
    if (!phase) throw Error(ErrorCode::kUsage, fmt::format("no phase is called '{}'; there are file, config, tokens, weights, ops, logits", name));
    out.phases.push_back(*phase);
  }
  out.causes = !args.no_cause;
  return out;
}

// `apr bisect BUNDLE`: what the archive says, run again.
int Replay(const BisectArgs& args, Console& console) {
  const bool more = args.prompt.given() > 0 || !args.options.messages.empty() || !args.phases.empty() || args.no_cause || !args.bundle.empty();
  if (more) throw Error(ErrorCode::kUsage, "a bundle is replayed with the options it was made with");
  const bisect::Replayed replayed = bisect::ReplayBundle(args.options.a);
  if (!args.html.empty()) WriteTextFile(args.html, bisect::ToHtml(replayed.report), args.force ? Overwrite::kAllow : Overwrite::kRefuse);
  const std::string recorded = replayed.recorded_verdict + (replayed.recorded_cause.empty() ? "" : ", " + replayed.recorded_cause);
  if (console.json()) {
    Json document = replayed.report.ToJson();
    document["replay"] = {{"recorded_verdict", replayed.recorded_verdict}, {"recorded_cause", replayed.recorded_cause}, {"agrees", replayed.agrees}};
    console.Document(document);
  } else {
    console.Text(replayed.report.ToText());
    console.Text(fmt::format("  replay    recorded: {}; {}\n", recorded, replayed.agrees ? "found again" : "NOT what was found now"));
  }
  return bisect::VerdictExitCode(replayed.report.verdict);
}

int Run(const BisectArgs& args, Console& console) {
  if (args.options.b.empty()) {
    if (bisect::IsBundle(args.options.a)) return Replay(args, console);
    throw Error(ErrorCode::kUsage, "B is missing: two sides are compared, or one bundle is replayed");
  }
  const bisect::Report report = bisect::Run(ToOptions(args));
  if (!args.html.empty()) WriteTextFile(args.html, bisect::ToHtml(report), args.force ? Overwrite::kAllow : Overwrite::kRefuse);
  if (!args.bundle.empty()) {
    bisect::WriteBundle({.path = args.bundle, .options = ToOptions(args), .version = kVersion, .overwrite = args.force ? Overwrite::kAllow : Overwrite::kRefuse}, report);
  }
  if (console.json()) console.Document(report.ToJson());
  else console.Text(report.ToText());
  return bisect::VerdictExitCode(report.verdict);
}

CommandRunner DefineBisect(Flags& app) {
  auto args = std::make_shared<BisectArgs>();
  bisect::Options& o = args->options;
  app.AddOption("A", o.a, "trusted: a model, MODEL@reference, MODEL@cpu, or a stage directory; or a bundle to replay")->Required();
  app.AddOption("B", o.b, "the suspect: likewise");
  AddPromptFlags(app, args->prompt);
  app.AddOption("--messages", o.messages, "a JSON file of chat messages, rendered with A's template")->TypeName("FILE");
  app.AddOption("--phases", args->phases, "only these, commas between: file, config, tokens, weights, ops, logits")->TypeName("LIST");
  app.AddFlag("--no-cause", args->no_cause, "find the first difference, try no causes");
  app.AddOption("--html", args->html, "write the answer as a page, too")->TypeName("OUT");
  app.AddOption("--bundle", args->bundle, "write an archive that replays this (apr bisect OUT.tar.gz)")->TypeName("OUT.tar.gz");
  app.AddFlag("--force", args->force, "replace an existing page or bundle");
  app.AddOption("--threads", o.threads, "threads (default: all)")->Verify(Check::Range(1, 1024))->TypeName("N");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kBisectCommand = {
    .name = "bisect",
    .group = "Comparing",
    .summary = "Where two runs of a model first differ, and why",
    .example = "  apr bisect MODEL_DIR model.gguf\n  apr bisect MODEL_DIR captured-stages\n  apr bisect model.gguf@reference model.gguf@cpu -p 'Once upon a time'",
    .define = DefineBisect,
};

}  // namespace apr
