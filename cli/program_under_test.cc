// See program_under_test.h.
#include "cli/program_under_test.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/json.h"

namespace apr {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// The child's standard output and where the parent reads it.
struct OutChannel {
  int child = -1;
  int terminal = -1;  // the parent's end of a terminal
  std::string file;
};

OutChannel OpenOut(const ProgramRun& run, const std::string& collect) {
  OutChannel out;
  if (run.out_terminal) {
    if (openpty(&out.terminal, &out.child, nullptr, nullptr, nullptr) != 0) std::abort();
    fcntl(out.terminal, F_SETFL, O_NONBLOCK);
    fcntl(out.terminal, F_SETFD, FD_CLOEXEC);
  } else if (run.out_closed) {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    close(ends[0]);
    out.child = ends[1];
  } else {
    out.file = run.out_path.empty() ? collect : run.out_path;
    out.child = open(out.file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  }
  return out;
}

// Absolute: a test may run it from another folder.
const std::string kProgram = std::filesystem::absolute(APR_PROGRAM).string();

[[noreturn]] void Exec(const ProgramRun& run, int out, int err) {
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  const int in = open("/dev/null", O_RDONLY);
  dup2(in, STDIN_FILENO);
  for (const auto& [name, value] : run.environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<std::string> arguments = run.arguments;
  arguments.insert(arguments.begin(), kProgram);
  std::vector<char*> raw;
  for (std::string& argument : arguments) raw.push_back(argument.data());
  raw.push_back(nullptr);
  execv(kProgram.c_str(), raw.data());
  _exit(126);
}

void Drain(int terminal, std::string& out) {
  char buffer[4096];
  for (ssize_t n = 0; (n = read(terminal, buffer, sizeof buffer)) > 0;) out.append(buffer, static_cast<size_t>(n));
}

// Waits for the child, interrupting or killing it when due; returns its wait status.
int Watch(const ProgramRun& run, pid_t child, const OutChannel& channel, std::string& out, rusage& usage) {
  const auto start = Clock::now();
  bool interrupted = false;
  while (true) {
    int status = 0;
    if (wait4(child, &status, WNOHANG, &usage) == child) return status;
    if (channel.terminal >= 0) Drain(channel.terminal, out);
    const bool collected = channel.terminal < 0 && run.out_path.empty() && !channel.file.empty();
    if (!interrupted && run.interrupt_when && run.interrupt_when(collected ? ReadText(channel.file) : out)) {
      kill(child, SIGINT);
      interrupted = true;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const bool due = run.kill_after_seconds >= 0 && seconds >= run.kill_after_seconds;
    if (due || seconds > run.limit_seconds) kill(child, SIGKILL);
    const double left = run.kill_after_seconds >= 0 ? std::max(0.0, run.kill_after_seconds - seconds) : 0.002;
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(0.002, left)));
  }
}

}  // namespace

Json ProgramResult::Document() const {
  try {
    const Json document = ParseJson(out, "standard output");
    EXPECT_TRUE(document.is_object()) << out;
    return document;
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what() << "\nstandard output:\n" << out << "\nstandard error:\n" << err;
    return Json::object();
  }
}

ProgramResult RunApr(const ProgramRun& run) {
  const ScratchFolder scratch("run");
  const std::string err_path = scratch / "err";
  const OutChannel channel = OpenOut(run, scratch / "out");
  const int err = open(err_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const auto start = Clock::now();
  const pid_t child = fork();
  if (child == 0) Exec(run, channel.child, err);
  close(channel.child);
  close(err);
  ProgramResult result;
  rusage usage{};
  const int status = Watch(run, child, channel, result.out, usage);
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  result.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  result.peak_resident_kib = usage.ru_maxrss;
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.err = ReadText(err_path);
  if (channel.terminal >= 0) {
    Drain(channel.terminal, result.out);
    close(channel.terminal);
  } else if (run.out_path.empty() && !channel.file.empty()) {
    result.out = ReadText(channel.file);
  }
  return result;
}

ScratchFolder::ScratchFolder(const std::string& name, Place place) {
  const bool memory = place == Place::kMemory && access("/dev/shm", W_OK) == 0;
  path_ = (fs::path(memory ? "/dev/shm" : testing::TempDir()) / ("apr_" + name + "_XXXXXX")).string();
  if (mkdtemp(path_.data()) == nullptr) std::abort();
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::vector<std::string> ScratchFolder::Names() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {
    if (!entry.is_directory()) names.push_back(fs::relative(entry.path(), path_).string());
  }
  std::ranges::sort(names);
  return names;
}

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

}  // namespace apr
