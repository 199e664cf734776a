// Ctrl-C and closed pipes. By default SIGINT, SIGTERM and SIGPIPE remove temporary files and end the
// program at once; while an InterruptGuard lives, the first SIGINT only raises a flag that the
// command looks at.
#pragma once

namespace apr {

void InstallSignalHandlers();

class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  // SIGINT arrived since construction or the last Clear(). A second one ends the program.
  static bool Raised();
  static void Clear();
};

}  // namespace apr
