// See line_input.h. Editing by libedit.
#include "cli/line_input.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <utility>

#include "cli/interrupt.h"

namespace apr {

struct LineInput::Editor {
  explicit Editor(std::string text) : prompt(std::move(text)), line(el_init("apr", stdin, stdout, stderr)), lines(history_init()) {
    HistEvent event;
    history(lines, &event, H_SETSIZE, 1000);
    el_set(line, EL_CLIENTDATA, this);
    el_set(line, EL_PROMPT, &Editor::Prompt);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_HIST, history, lines);
    el_set(line, EL_SIGNAL, 0);
  }
  ~Editor() {
    el_end(line);
    history_end(lines);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  static char* Prompt(EditLine* line) {
    void* self = nullptr;
    el_get(line, EL_CLIENTDATA, &self);
    return static_cast<Editor*>(self)->prompt.data();
  }

  std::string prompt;
  EditLine* line;
  History* lines;
};

LineInput::LineInput(std::string prompt) {
  if (isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0) editor_ = std::make_unique<Editor>(std::move(prompt));
}

LineInput::~LineInput() = default;

std::optional<std::string> LineInput::Read() {
  std::string text;
  if (editor_ == nullptr) {
    if (!std::getline(std::cin, text)) return std::nullopt;
    return text;
  }
  int count = 0;
  errno = 0;
  const char* line = el_gets(editor_->line, &count);
  if (line == nullptr || count <= 0) {
    if (!InterruptGuard::Raised() && errno != EINTR) return std::nullopt;
    InterruptGuard::Clear();
    el_reset(editor_->line);
    std::fputs("\n", stdout);
    return "";
  }
  text.assign(line, static_cast<size_t>(count));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  HistEvent event;
  if (!text.empty()) history(editor_->lines, &event, H_ENTER, text.c_str());
  return text;
}

}  // namespace apr
