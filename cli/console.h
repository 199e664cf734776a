// What a command writes to: text for people on standard output, one JSON document instead with
// --json, notes and warnings on standard error.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_fwd.h"

namespace apr {

struct GlobalOptions {
  bool json = false;
  bool verbose = false;
  bool quiet = false;
  bool offline = false;
  std::string cpu;  // instruction-set table asked for; empty: the strongest
};

enum class Style { kPlain, kBold, kDim, kRed, kGreen, kYellow };

class Console {
 public:
  explicit Console(const GlobalOptions& options);

  bool json() const { return options_.json; }
  bool verbose() const { return options_.verbose; }
  bool quiet() const { return options_.quiet; }
  bool offline() const { return options_.offline; }
  bool terminal() const { return terminal_; }  // standard output is one
  bool json_written() const { return json_written_; }

  // Standard output; silent with --json or --quiet. Throws Error(kIo) when the output cannot be
  // written (a closed pipe ends the program instead).
  void Text(std::string_view text);
  void Line(std::string_view text);
  // Pushes out what was written so far: streamed text.
  void Flush();
  // The one document of the command, on standard output; also with --quiet. Only with --json.
  void Document(const Json& document);

  // Standard error. Notes only with --verbose, warnings always.
  void Note(std::string_view text);
  void Warn(std::string_view text);

  // `text` in a colour, if standard output is a terminal and NO_COLOR is not set.
  std::string Styled(Style style, std::string_view text) const;

 private:
  GlobalOptions options_;
  bool terminal_;
  bool colour_;
  bool json_written_ = false;
};

// Columns for people: cells padded to the widest of their column, numbers to the right.
class TextTable {
 public:
  // '<' or '>' per column.
  explicit TextTable(std::string alignments) : alignments_(std::move(alignments)) {}
  void Row(std::initializer_list<std::string> cells);
  void Row(std::vector<std::string> cells);
  std::string ToString() const;  // one line a row, two blanks between columns, none at the end

 private:
  std::string alignments_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace apr
