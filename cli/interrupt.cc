// See interrupt.h.
#include "cli/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "base/output_file.h"

namespace apr {
namespace {

volatile std::sig_atomic_t g_cooperative = 0;
volatile std::sig_atomic_t g_raised = 0;

// What the handler writes: fixed storage.
char g_document[1024];
volatile std::sig_atomic_t g_document_size = 0;

void WriteAll(int file, const char* text, size_t size) {
  while (size > 0) {
    const ssize_t written = write(file, text, size);
    if (written <= 0) return;
    text += written;
    size -= static_cast<size_t>(written);
  }
}

extern "C" void OnInterrupt(int) {
  if (g_cooperative != 0 && g_raised == 0) {
    g_raised = 1;
    return;
  }
  RemoveTemporaryFilesInSignalHandler();
  static constexpr char kMessage[] = "apr: stopped: interrupted\n";
  WriteAll(STDERR_FILENO, kMessage, sizeof kMessage - 1);
  WriteAll(STDOUT_FILENO, g_document, static_cast<size_t>(g_document_size));
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
  // A file at its size limit is an error of write(), as a full disk is.
  Handle(SIGXFSZ, SIG_IGN, 0);
}

void SetInterruptDocument(std::string_view text) {
  g_document_size = 0;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (text.size() > sizeof g_document) return;
  text.copy(g_document, text.size());
  std::atomic_signal_fence(std::memory_order_seq_cst);
  g_document_size = static_cast<std::sig_atomic_t>(text.size());
}

InterruptGuard::InterruptGuard() {
  g_raised = 0;
  g_cooperative = 1;
}

InterruptGuard::~InterruptGuard() { g_cooperative = 0; }

bool InterruptGuard::Raised() { return g_raised != 0; }
void InterruptGuard::Clear() { g_raised = 0; }

}  // namespace apr
