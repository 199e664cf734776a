// See console.h.
#include "cli/console.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/interrupt.h"

namespace apr {
namespace {

bool WantsNoColour() {
  const char* value = std::getenv("NO_COLOR");
  return value != nullptr && *value != '\0';
}

void Write(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    throw Error(ErrorCode::kIo, std::string("cannot write: ") + std::strerror(errno), {.file = "standard output"});
  }
}

// Columns that UTF-8 text takes on a terminal, wide characters aside.
size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

const char* EscapeOf(Style style) {
  switch (style) {
    case Style::kPlain: return "";
    case Style::kBold: return "\x1b[1m";
    case Style::kDim: return "\x1b[2m";
    case Style::kRed: return "\x1b[31m";
    case Style::kGreen: return "\x1b[32m";
    case Style::kYellow: return "\x1b[33m";
  }
  return "";
}

}  // namespace

Console::Console(const GlobalOptions& options)
    : options_(options),
      terminal_(isatty(STDOUT_FILENO) != 0),
      colour_(terminal_ && !WantsNoColour()) {}

void Console::Text(std::string_view text) {
  if (options_.json || options_.quiet) return;
  Write(text);
}

void Console::Line(std::string_view text) {
  Text(text);
  Text("\n");
}

void Console::Flush() {
  if (std::fflush(stdout) != 0) {
    throw Error(ErrorCode::kIo, std::string("cannot write: ") + std::strerror(errno), {.file = "standard output"});
  }
}

void Console::Document(const Json& document) {
  APR_CHECK(options_.json && !json_written_);
  json_written_ = true;
  SetInterruptDocument({});
  Write(DumpJson(document) + "\n");
}

void Console::Note(std::string_view text) {
  if (!options_.verbose) return;
  std::fprintf(stderr, "apr: %.*s\n", static_cast<int>(text.size()), text.data());
}

void Console::Warn(std::string_view text) {
  std::fprintf(stderr, "apr: warning: %.*s\n", static_cast<int>(text.size()), text.data());
}

std::string Console::Styled(Style style, std::string_view text) const {
  if (!colour_ || style == Style::kPlain) return std::string(text);
  return EscapeOf(style) + std::string(text) + "\x1b[0m";
}

void TextTable::Row(std::initializer_list<std::string> cells) { rows_.emplace_back(cells); }
void TextTable::Row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

std::string TextTable::ToString() const {
  std::vector<size_t> widths(alignments_.size(), 0);
  for (const auto& row : rows_) {
    APR_CHECK(row.size() <= widths.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - DisplayWidth(row[i]), ' ');
      if (i > 0) line += "  ";
      line += alignments_[i] == '>' ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace apr
