// See command.h: from the arguments of main() to an exit code.
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/nearest.h"
#include "cli/version.h"

namespace apr {
namespace {

using Commands = std::span<const Command* const>;

struct CommandLine {
  CLI::App app;  // lives as long as the command runs: it may ask which flags were given
  Flags flags{app};
  GlobalOptions options;
  bool help = false;
  bool version = false;
  const Command* command = nullptr;
  CommandRunner run;  // null: only help or version was asked for
};

[[noreturn]] void ThrowUsage(std::string message) { throw Error(ErrorCode::kUsage, std::move(message)); }

std::string DidYouMean(std::string_view typed, const std::vector<std::string>& known) {
  const auto nearest = NearestName(typed, known);
  return nearest ? "; did you mean '" + *nearest + "'?" : "";
}

void AddGlobalFlags(CLI::App& app, CommandLine& line) {
  app.add_flag("--json", line.options.json, "exactly one JSON document on standard output")->group("Global");
  app.add_flag("-v,--verbose", line.options.verbose, "say more on standard error")->group("Global");
  app.add_flag("-q,--quiet", line.options.quiet, "nothing on standard output but --json")->group("Global");
  app.add_flag("--offline", line.options.offline, "never touch the network")->group("Global");
  app.add_option("--cpu", line.options.cpu, "instruction-set table to use (apr devices lists them)")
      ->type_name("NAME")
      ->group("Global");
}

void PrintHelp(Commands commands) {
  std::string out =
      "apr runs, converts and debugs transformer language models.\n\n"
      "Usage: apr COMMAND [FLAGS]      apr COMMAND --help\n";
  std::vector<std::string_view> groups;
  for (const Command* command : commands) {
    if (std::ranges::find(groups, command->group) == groups.end()) groups.emplace_back(command->group);
  }
  size_t width = 0;
  for (const Command* command : commands) width = std::max(width, std::string_view(command->name).size());
  for (const std::string_view group : groups) {
    out += "\n" + std::string(group) + ":\n";
    for (const Command* command : commands) {
      if (group != command->group) continue;
      out += fmt::format("  {:<{}}  {}\n", command->name, width, command->summary);
    }
  }
  out +=
      "\nGlobal flags: --json, -v/--verbose, -q/--quiet, --offline, --cpu NAME; --version\n"
      "Exit codes: 0 ok, 1 internal, 2 usage, 3 not found, 4 invalid format, 5 validation failed,\n"
      "  6 model cannot be loaded, 7 input/output, 8 inference failed, 9 not built in, 10 network,\n"
      "  11 HTTP 404, 12 inconclusive, 130 interrupted\n";
  std::fputs(out.c_str(), stdout);
}

int PrintVersion(const GlobalOptions& options) {
  if (!options.json) {
    std::printf("apr %s (%s)\n", kVersion, kGitSha);
    return 0;
  }
  Console console(options);
  console.Document({{"name", "apr"},
                    {"version", kVersion},
                    {"git_sha", kGitSha},
                    {"cuda_feature", false},
                    {"cuda_runtime_available", false},
                    {"visible_devices", Json::array()}});
  return 0;
}

// One line without CLI11's own names for things.
std::string Describe(const CLI::App& app, const CLI::ParseError& error) {
  const bool extras = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError);
  if (!extras && error.get_exit_code() != static_cast<int>(CLI::ExitCodes::RequiredError)) return error.what();
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (const std::string& extra : app.remaining(true)) {
    if (!extra.starts_with("-")) continue;
    const std::string name = extra.substr(0, extra.find('='));
    return fmt::format("unknown flag '{}'{}", name, DidYouMean(name, known));
  }
  if (!extras) return error.what();
  const auto rest = app.remaining(true);
  return fmt::format("unexpected argument '{}'", rest.empty() ? "" : rest.front());
}

// Arguments before the command can only be global flags; returns where the command's name stands.
size_t FindCommandName(const std::vector<std::string>& arguments) {
  static const std::vector<std::string> kFlags = {"--json", "-v",     "--verbose", "-q",       "--quiet", "--offline",
                                                  "--cpu",  "--help", "-h",        "--version"};
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("-") || argument == "-") return i;
    const std::string name = argument.substr(0, argument.find('='));
    if (std::ranges::find(kFlags, name) == kFlags.end()) {
      ThrowUsage(fmt::format("unknown global flag '{}'{}; flags of a command come after its name", name,
                             DidYouMean(name, kFlags)));
    }
    if (argument == "--cpu") ++i;
  }
  return arguments.size();
}

const Command& FindCommand(Commands commands, const std::string& name) {
  std::vector<std::string> names;
  for (const Command* command : commands) {
    if (name == command->name || (command->alias != nullptr && name == command->alias)) return *command;
    names.emplace_back(command->name);
  }
  ThrowUsage(fmt::format("unknown command '{}'{} (apr --help lists them)", name, DidYouMean(name, names)));
}

// CLI11 takes its arguments last first.
void Parse(CLI::App& app, std::vector<std::string> arguments) {
  std::ranges::reverse(arguments);
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    ThrowUsage(Describe(app, error));
  }
}

// `line` is filled as far as parsing gets, so that an error is reported the way that was asked for.
void ParseCommandLine(std::vector<std::string> arguments, Commands commands, CommandLine& line) {
  size_t at = FindCommandName(arguments);
  if (at < arguments.size() && arguments[at] == "help") {
    arguments.erase(arguments.begin() + static_cast<ptrdiff_t>(at));
    arguments.emplace_back("--help");
    at = FindCommandName(arguments);
  }
  CLI::App& app = line.app;
  app.set_help_flag();
  app.add_flag("-h,--help", line.help, "this text")->group("Global");
  AddGlobalFlags(app, line);
  if (at == arguments.size()) {
    app.add_flag("--version", line.version, "name and version");
    Parse(app, std::move(arguments));
    if (!line.version && !line.help) ThrowUsage("no command given (apr --help lists them)");
    return;
  }
  line.command = &FindCommand(commands, arguments[at]);
  arguments.erase(arguments.begin() + static_cast<ptrdiff_t>(at));
  app.name(std::string("apr ") + line.command->name);
  app.description(line.command->summary);
  app.footer(std::string("Example:\n") + line.command->example);
  CommandRunner run = line.command->define(line.flags);
  const auto dashes = std::ranges::find(arguments, "--");
  if (std::any_of(arguments.begin(), dashes, [](const auto& a) { return a == "--help" || a == "-h"; })) {
    line.help = true;
    std::fputs(app.help().c_str(), stdout);
    return;
  }
  Parse(app, std::move(arguments));
  line.run = std::move(run);
}

std::string OneLine(std::string text) {
  std::ranges::replace_if(text, [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return text;
}

int Report(const Error& error, const GlobalOptions& options, Console* console) {
  SetInterruptDocument({});
  std::fflush(stdout);
  std::fprintf(stderr, "apr: %s: %s\n", error.code() == ErrorCode::kCancelled ? "stopped" : "error",
               OneLine(error.what()).c_str());
  if (options.json && (console == nullptr || !console->json_written())) {
    std::fputs((DumpJson(ErrorDocument(error)) + "\n").c_str(), stdout);
    std::fflush(stdout);
  }
  return ExitCode(error.code());
}

int Dispatch(const CommandLine& line, Commands commands, std::optional<Console>& console) {
  if (line.version) return PrintVersion(line.options);
  if (line.command == nullptr) {
    PrintHelp(commands);
    return 0;
  }
  if (line.run == nullptr) return 0;
  if (!line.options.cpu.empty()) ForceIsa(line.options.cpu);
  ActiveIsa();  // an unknown APR_CPU is an error for every command
  Progress::SetEnabled(!line.options.quiet);
  console.emplace(line.options);
  const int code = line.run(*console);
  console->Flush();
  return code;
}

}  // namespace

int RunProgram(int argc, const char* const* argv, Commands commands) {
  InstallSignalHandlers();
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  CommandLine line;
  std::optional<Console> console;
  // Known before parsing has succeeded: a usage error, too, is a JSON document where one was asked for.
  const auto dashes = std::ranges::find(arguments, "--");
  const bool json = std::find(arguments.begin(), dashes, "--json") != dashes;
  if (json) SetInterruptDocument(DumpJson(ErrorDocument(Error(ErrorCode::kCancelled, "interrupted"))) + "\n");
  try {
    ParseCommandLine(std::move(arguments), commands, line);
    return Dispatch(line, commands, console);
  } catch (const Error& error) {
    line.options.json = json;
    return Report(error, line.options, console ? &*console : nullptr);
  } catch (const std::bad_alloc&) {
    line.options.json = json;
    return Report(Error(ErrorCode::kInternal, "out of memory"), line.options, console ? &*console : nullptr);
  } catch (const std::exception& error) {
    line.options.json = json;
    return Report(Error(ErrorCode::kInternal, error.what()), line.options, console ? &*console : nullptr);
  }
}

}  // namespace apr
