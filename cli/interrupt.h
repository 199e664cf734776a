// Ctrl-C and closed pipes. By default SIGINT, SIGTERM and SIGPIPE remove temporary files and end the
// program at once; while an InterruptGuard lives, the first SIGINT only raises a flag that the
// command looks at.
#pragma once

#include <string_view>

namespace apr {

void InstallSignalHandlers();

// What the program writes to standard output when SIGINT ends it at once: the document that --json
// promises. Empty: nothing. At most 1024 bytes.
void SetInterruptDocument(std::string_view text);

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
