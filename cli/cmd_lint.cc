// apr lint: advice about a model file.
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "model/lint.h"

namespace apr {
namespace {

int Run(const std::string& path, Console& console) {
  const LintReport report = LintModel(ModelFile::Open(path));
  if (console.json()) console.Document(report.ToJson());
  for (const LintIssue& issue : report.issues) {
    const Style style = issue.level == LintLevel::kError ? Style::kRed : issue.level == LintLevel::kWarn ? Style::kYellow : Style::kDim;
    console.Line(fmt::format("{}  {}: {}", console.Styled(style, fmt::format("{:<5}", LintLevelName(issue.level))), issue.category, issue.message));
    if (!issue.suggestion.empty()) console.Line("       " + issue.suggestion);
  }
  console.Line(fmt::format("{}: {} ({} errors, {} warnings, {} notes)", path, report.passed() ? "passed" : "failed",
                           report.Count(LintLevel::kError), report.Count(LintLevel::kWarn), report.Count(LintLevel::kInfo)));
  return report.passed() ? 0 : ExitCode(ErrorCode::kValidationFailed);
}

CommandRunner DefineLint(Flags& app) {
  auto file = std::make_shared<std::string>();
  app.AddOption("file", *file, "file or folder")->Required()->TypeName("FILE");
  return [file](Console& console) { return Run(*file, console); };
}

}  // namespace

const Command kLintCommand = {
    .name = "lint",
    .group = "Looking inside",
    .summary = "Advice: missing licence and provenance, names, alignment, shapes against the configuration",
    .example = "  apr lint model.gguf\n  apr lint model.apr --json",
    .define = DefineLint,
};

}  // namespace apr
