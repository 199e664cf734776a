// See jsonl.h.
#include "cli/jsonl.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/progress.h"
#include "cli/console.h"

namespace apr {
namespace {

Json ParseLine(std::string_view line, const std::string& file, uint64_t offset) {
  try {
    Json object = ParseJson(line, file);
    if (object.is_object()) return object;
  } catch (const Error& error) {
    throw Error(error.code(), error.message(), {.file = file, .offset = offset + error.context().offset.value_or(0)});
  }
  throw Error(ErrorCode::kInvalidFormat, "the line is no JSON object", {.file = file, .offset = offset});
}

}  // namespace

const Json& RequireMember(const Json& line, const char* key) {
  const auto it = line.find(key);
  if (it == line.end()) throw Error(ErrorCode::kInvalidFormat, "the line's object lacks a member", {.tensor = key});
  return *it;
}

int64_t ConvertJsonl(const JsonlJob& job, Console& console, const std::function<Json(const Json&)>& convert) {
  if (job.out.empty() && console.json()) {
    throw Error(ErrorCode::kUsage, "--jsonl with --json needs --out: standard output holds one document");
  }
  const auto mapped = MappedFile::Open(job.in);
  std::optional<OutputFile> file;
  if (!job.out.empty()) file.emplace(job.out, job.force ? Overwrite::kAllow : Overwrite::kRefuse);
  const std::string_view text = AsText(mapped->bytes());
  Progress progress(job.label, text.size());
  int64_t lines = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.find_first_not_of(" \t\r") != line.npos) {
      const Json object = ParseLine(line, job.in, at);
      std::string result;
      try {
        result = DumpJson(convert(object), -1) + "\n";
      } catch (const Error& error) {
        throw error.With({.file = job.in, .offset = at});
      }
      file ? file->Write(result) : console.Text(result);
      ++lines;
    }
    progress.Add(std::min(end + 1, text.size()) - at);
    at = end + 1;
  }
  if (file) file->Commit();
  return lines;
}

}  // namespace apr
