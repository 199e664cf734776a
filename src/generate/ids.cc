// See ids.h.
#include "generate/ids.h"

#include <fmt/format.h>

#include <charconv>

#include "base/error.h"
#include "base/mapped_file.h"

namespace apr {
namespace {

bool IsSeparator(char c) { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

[[noreturn]] void Fail(const std::string& source, size_t at, std::string what) {
  if (source.empty()) throw Error(ErrorCode::kUsage, what, {.offset = at});
  throw Error(ErrorCode::kInvalidFormat, what, {.file = source, .offset = at});
}

// "1,,2" and a comma at either end are slips, not ids.
void CheckGap(std::string_view gap, bool first, bool last, const std::string& source, size_t at) {
  size_t commas = 0;
  for (const char c : gap) commas += c == ',' ? 1 : 0;
  if (commas > 1 || (commas == 1 && (first || last))) Fail(source, at, "an id is missing at a comma");
}

}  // namespace

std::vector<int32_t> ParseIds(std::string_view text, const std::string& source) {
  std::vector<int32_t> ids;
  size_t at = 0;
  while (true) {
    const size_t gap = at;
    while (at < text.size() && IsSeparator(text[at])) ++at;
    CheckGap(text.substr(gap, at - gap), ids.empty(), at == text.size(), source, gap);
    if (at == text.size()) break;
    int32_t id = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), id);
    const auto stop = static_cast<size_t>(end - text.data());
    if (error != std::errc() || id < 0 || (stop < text.size() && !IsSeparator(text[stop]))) {
      size_t word = at;
      while (word < text.size() && !IsSeparator(text[word]) && word - at < 40) ++word;
      Fail(source, at, fmt::format("not a token id: '{}'", text.substr(at, word - at)));
    }
    ids.push_back(id);
    at = stop;
  }
  if (ids.empty()) Fail(source, 0, "no token ids");
  return ids;
}

std::vector<int32_t> ReadIdsFile(const std::string& path) {
  return ParseIds(AsText(MappedFile::Open(path)->bytes()), path);
}

std::string FormatIds(const std::vector<int32_t>& ids) { return fmt::format("{}", fmt::join(ids, ",")); }

}  // namespace apr
