// Single APRT files: see stage_file.h.
#include "format/stage_file.h"

#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>

#include "base/error.h"
#include "base/mapped_file.h"

namespace apr {
namespace {

constexpr uint64_t kHeaderBytes = 12;

}  // namespace

bool LooksLikeStageFile(Bytes bytes) {
  return bytes.size() >= 4 && AsText(bytes.subspan(0, 4)) == "APRT";
}

StageFile ParseStageFile(Bytes bytes, const std::string& file) {
  ByteReader reader(bytes, file);
  if (AsText(reader.ReadBytes(4, "the magic")) != "APRT") {
    reader.FailAt(0, "not a stage file: the magic 'APRT' is missing");
  }
  StageFile out;
  out.layer = reader.Read<uint32_t>("the layer");
  const auto count = reader.Read<uint32_t>("the count");
  const uint64_t need = kHeaderBytes + uint64_t{4} * count;
  if (bytes.size() != need) {
    reader.FailAt(8, fmt::format("{}{} values need a file of {} bytes, this one has {}",
                                 bytes.size() < need ? "truncated: " : "", count, need, bytes.size()));
  }
  out.values.resize(count);
  if (count > 0) std::memcpy(out.values.data(), bytes.data() + kHeaderBytes, size_t{4} * count);
  return out;
}

StageFile ReadStageFile(const std::string& path) {
  return ParseStageFile(MappedFile::Open(path)->bytes(), path);
}

void WriteStageFile(const std::string& path, uint32_t layer, std::span<const float> values,
                    Overwrite overwrite) {
  if (values.size() > std::numeric_limits<uint32_t>::max()) {
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("{} values; a stage file holds at most 2^32 - 1", values.size()),
                {.file = path});
  }
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) throw Error(ErrorCode::kIo, "cannot make the folder: " + error.message(), {.file = path});
  OutputFile out(path, overwrite);
  char header[kHeaderBytes] = {'A', 'P', 'R', 'T'};
  StoreLe(header + 4, layer);
  StoreLe(header + 8, static_cast<uint32_t>(values.size()));
  out.Write(std::string_view(header, sizeof header));
  out.Write(std::as_bytes(values));
  out.Commit();
}

std::string StageName::ToString() const {
  return layer == kWholeModel ? stage : fmt::format("layer-{}/{}", layer, stage);
}

std::optional<StageName> ParseStageName(std::string_view name) {
  constexpr std::string_view kPrefix = "layer-";
  StageName out;
  const size_t slash = name.find('/');
  if (slash != name.npos) {
    if (!name.starts_with(kPrefix)) return std::nullopt;
    const std::string_view digits = name.substr(kPrefix.size(), slash - kPrefix.size());
    const bool plain = !digits.empty() && digits.size() <= 9 && (digits.size() == 1 || digits[0] != '0');
    if (!plain || digits.find_first_not_of("0123456789") != digits.npos) return std::nullopt;
    out.layer = static_cast<uint32_t>(std::stoul(std::string(digits)));
    name.remove_prefix(slash + 1);
  }
  const bool word = !name.empty() && name.size() <= 200 &&
                    name.find_first_not_of("abcdefghijklmnopqrstuvwxyz"
                                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == name.npos;
  if (!word || name[0] == '.') return std::nullopt;
  out.stage = name;
  return out;
}

}  // namespace apr
