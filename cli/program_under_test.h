// Runs the built program in a child process and collects what it did: for tests of the command line.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/json_fwd.h"

namespace apr {

struct ProgramRun {
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> environment;  // beside the test's own
  std::string out_path;        // standard output goes there instead of being collected
  bool out_closed = false;     // standard output is a pipe that nobody reads any more
  bool out_terminal = false;   // standard output is a terminal
  // Asked every few milliseconds; once true, SIGINT is sent to the program.
  std::function<bool(const std::string& out_so_far)> interrupt_when;
  double kill_after_seconds = -1;  // SIGKILL then, if not negative
  int limit_seconds = 120;     // then it is killed, and `signal` says so
};

struct ProgramResult {
  int code = -1;   // exit code; -1 if a signal ended it
  int signal = 0;
  std::string out, err;
  double seconds = 0;
  double cpu_seconds = 0;         // of the program and the system for it
  long peak_resident_kib = 0;     // at least that of this test at the time of the start

  // Standard output as exactly one JSON document; fails the test (and gives null) otherwise.
  Json Document() const;
};

ProgramResult RunApr(const ProgramRun& run);
inline ProgramResult RunApr(std::vector<std::string> arguments) { return RunApr(ProgramRun{.arguments = std::move(arguments)}); }

// A fresh empty folder that is removed at the end.
class ScratchFolder {
 public:
  enum class Place { kDisk, kMemory };  // kMemory: a few MB in many files, where syncing each costs nothing
  explicit ScratchFolder(const std::string& name, Place place = Place::kDisk);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::string path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::vector<std::string> Names() const;  // of all files below it, sorted

 private:
  std::string path_;
};

std::string ReadText(const std::string& path);
void WriteText(const std::string& path, const std::string& text);

}  // namespace apr
