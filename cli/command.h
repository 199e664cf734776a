// What a command is to the program: a name, help, flags, and what runs them. One file per command,
// cmd_<name>.cc; its line in the table stands in main.cc.
#pragma once

#include <functional>
#include <span>

namespace apr {

class Console;
class Flags;

// Carries out the command with the flags that were parsed; returns the exit code. Throws Error.
using CommandRunner = std::function<int(Console&)>;

struct Command {
  const char* name;
  const char* group;    // heading under which `apr --help` lists it
  const char* summary;  // one line
  const char* example;  // one or more command lines, each indented by two spaces
  // Declares flags and positional arguments; the runner owns the struct they are parsed into.
  CommandRunner (*define)(Flags& app);
  const char* alias = nullptr;  // a second name, if there is one
};

// The program: finds the command, parses, runs, and maps whatever was thrown to one line on standard
// error and the exit code of the table in base/error.h.
int RunProgram(int argc, const char* const* argv, std::span<const Command* const> commands);

}  // namespace apr
