// Lines that somebody types: with editing and history on a terminal, as they stand from elsewhere.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace apr {

class LineInput {
 public:
  explicit LineInput(std::string prompt);
  ~LineInput();
  LineInput(const LineInput&) = delete;
  LineInput& operator=(const LineInput&) = delete;

  // Without its newline; nullopt at the end of the input. Ctrl-C on a terminal discards the line and
  // gives an empty one.
  std::optional<std::string> Read();
  bool terminal() const { return editor_ != nullptr; }

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace apr
