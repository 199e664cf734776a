// The file phase of a bisection: whether each side's bytes are whole and agree with what its headers, indexes
// and checksums say.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "compare/bisect/bisection.h"
#include "format/apr_reader.h"

namespace apr::bisect {
namespace {

bool Contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

uint64_t SizeOf(const std::string& path) {
  std::error_code failed;
  const uint64_t size = std::filesystem::file_size(path, failed);
  return failed ? 0 : size;
}

// True if the entries of a safetensors header would cover a longer file without hole or overlap: then the
// header is sound and the end of the file is lost.
bool HeaderIsSound(const std::string& path) {
  try {
    const auto file = MappedFile::Open(path);
    if (file->size() < 8) return true;
    const uint64_t length = LoadLe<uint64_t>(file->bytes().data());
    if (length > file->size() - 8) return true;
    const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()) + 8, length);
    std::vector<std::pair<uint64_t, uint64_t>> ranges;
    const Json header = ParseJson(text, path);
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") continue;
      const Json& offsets = entry.at("data_offsets");
      ranges.emplace_back(offsets.at(0).get<uint64_t>(), offsets.at(1).get<uint64_t>());
    }
    std::ranges::sort(ranges);
    uint64_t end = 0;
    for (const auto& [first, last] : ranges) {
      if (first != end || last < first) return false;
      end = last;
    }
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

// Whether the bytes end too early, rather than contradict each other.
bool IsTruncated(const Error& e, const std::string& side_path) {
  const std::string& what = e.message();
  const std::string& path = e.context().file.empty() ? side_path : e.context().file;
  if (Contains(what, "shard does not exist")) return true;
  // Counts that a model may have, in a file too short for them.
  constexpr uint64_t kPlausible = 100'000;
  if (Contains(what, " cannot fit in the ") && what[0] >= '0' && what[0] <= '9') return std::strtoull(what.c_str(), nullptr, 10) < kPlausible;
  if (Contains(what, "lie outside the")) return HeaderIsSound(path);
  if (Contains(what, "end after the end")) {
    // A tensor that begins beyond the end was never there: its offset is wrong.
    return !e.context().offset || *e.context().offset <= SizeOf(path);
  }
  return what.rfind("truncated:", 0) == 0 || SizeOf(path) == 0;
}

Finding FindingOf(const Error& e, const std::string& side_path, bool is_a) {
  Finding out;
  const bool truncated = IsTruncated(e, side_path);
  out.first.phase = Phase::kFile;
  out.first.tensor = e.context().tensor;
  out.first.note = (is_a ? "A, the trusted side, is damaged: " : "") + std::string(e.what());
  Cause cause;
  cause.name = truncated ? "file_truncated" : "file_corrupt";
  cause.evidence = out.first.note;
  if (truncated) {
    const std::string& path = e.context().file.empty() ? side_path : e.context().file;
    cause.evidence += fmt::format("; the file has {} bytes", SizeOf(path));
    cause.fix = "fetch or write the file again: its end, or a shard, is missing";
  } else {
    cause.fix = "fetch or write the file again: what its header or index says is not what its bytes are";
  }
  out.trials.push_back({cause.name, "as the reader reports", 0, true});
  out.cause = std::move(cause);
  return out;
}

// What opening does not look at, because it reads every byte or only warns.
std::optional<Error> Deeper(const ModelFile& file) {
  if (file.container() == Container::kApr) {
    try {
      ValidateApr(file);
    } catch (const Error& e) {
      return e;
    }
  }
  for (const FileWarning& warning : file.warnings()) {
    if (Contains(warning.what, "does not list a tensor")) {
      return Error(ErrorCode::kInvalidFormat, warning.what, {.file = warning.file, .tensor = warning.key});
    }
  }
  return std::nullopt;
}

}  // namespace

void RunFilePhase(Bisection& b) {
  for (const Side* side : {&b.a, &b.b}) {
    if (side->stages) continue;
    std::optional<Error> problem = side->problem;
    if (!problem && side->file != nullptr) problem = Deeper(*side->file);
    if (problem) b.Add(FindingOf(*problem, side->path, side == &b.a));
    if (side->file == nullptr) continue;
    for (const FileWarning& warning : side->file->warnings()) {
      b.Note(fmt::format("{}: {}{}", warning.file, warning.what, warning.key.empty() ? "" : " (" + warning.key + ")"));
    }
  }
  if (b.a.is_model() && b.b.is_model()) b.report.coverage.phases.push_back(Phase::kFile);
}

}  // namespace apr::bisect
