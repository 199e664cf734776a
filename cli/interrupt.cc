// See interrupt.h.
#include "cli/interrupt.h"

#include <unistd.h>

#include <csignal>

#include "base/error.h"
#include "base/output_file.h"

namespace apr {
namespace {

volatile std::sig_atomic_t g_cooperative = 0;
volatile std::sig_atomic_t g_raised = 0;

extern "C" void OnInterrupt(int) {
  if (g_cooperative != 0 && g_raised == 0) {
    g_raised = 1;
    return;
  }
  RemoveTemporaryFilesInSignalHandler();
  _exit(130);
}

// The status that the shell expects of a program ended by this signal.
extern "C" void OnEnd(int signal) {
  RemoveTemporaryFilesInSignalHandler();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void Handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

void InstallSignalHandlers() {
  Handle(SIGINT, OnInterrupt, 0);
  Handle(SIGTERM, OnEnd, SA_NODEFER);
  Handle(SIGPIPE, OnEnd, SA_NODEFER);
}

InterruptGuard::InterruptGuard() {
  g_raised = 0;
  g_cooperative = 1;
}

InterruptGuard::~InterruptGuard() { g_cooperative = 0; }

bool InterruptGuard::Raised() { return g_raised != 0; }
void InterruptGuard::Clear() { g_raised = 0; }

}  // namespace apr
