// See prompt_cache.h.
#include "generate/prompt_cache.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <vector>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "base/thread_pool.h"

namespace apr {
namespace {

constexpr std::string_view kMagic = "APRK";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 104;

// What ran, as fixed fields of the header.
struct Setting {
  const char* name;
  size_t offset;
  std::string value;
};
constexpr size_t kSettingBytes = 16;

std::vector<Setting> SettingsOf(const Executor& executor) {
  return {{"executor", 16, ExecutorName(executor.kind())},
          {"precision", 32, PrecisionName(executor.precision())},
          {"instruction-set table", 48, IsaName(ActiveIsa())},
          {"cache type", 64, CacheTypeName(executor.cache_type())}};
}

uint32_t Crc(Bytes bytes, uint32_t start = 0) {
  return static_cast<uint32_t>(crc32_z(start, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
  return hash ^ hash >> 32;
}

// Four lanes, so that the multiplications overlap.
uint64_t HashBytes(Bytes bytes) {
  uint64_t lanes[4] = {1, 2, 3, 4};
  size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) {
    for (size_t lane = 0; lane < 4; ++lane) lanes[lane] = Mix(lanes[lane], LoadLe<uint64_t>(bytes.data() + i + 8 * lane));
  }
  uint64_t hash = bytes.size();
  for (const uint64_t lane : lanes) hash = Mix(hash, lane);
  for (; i < bytes.size(); ++i) hash = Mix(hash, static_cast<uint64_t>(bytes[i]));
  return hash;
}

struct Header {
  uint64_t digest = 0;
  uint64_t tokens = 0;
  uint64_t rope_length = 0;
  uint64_t bytes_per_token = 0;
};

void CheckHeader(const std::string& path, Bytes file) {
  const auto fail = [&](uint64_t at, std::string what) { throw Error(ErrorCode::kInvalidFormat, std::move(what), {.file = path, .offset = at}); };
  if (file.size() < kHeaderBytes) fail(file.size(), fmt::format("truncated: the header needs {} bytes, the file has {}", kHeaderBytes, file.size()));
  if (AsText(file.first(4)) != kMagic) fail(0, "is no prompt cache: it does not begin with 'APRK'");
  if (LoadLe<uint32_t>(file.data() + 4) != kVersion) fail(4, fmt::format("version {} of the format is unknown", LoadLe<uint32_t>(file.data() + 4)));
  if (LoadLe<uint32_t>(file.data() + 100) != Crc(file.first(100))) fail(100, "the checksum of the header does not fit");
}

// Header fields against the file's size, and the body's checksum.
Header ReadHeader(const std::string& path, Bytes file) {
  CheckHeader(path, file);
  Header h{LoadLe<uint64_t>(file.data() + 8), LoadLe<uint32_t>(file.data() + 80), LoadLe<uint64_t>(file.data() + 84), LoadLe<uint32_t>(file.data() + 92)};
  const auto each = CheckedAdd(h.bytes_per_token, sizeof(int32_t));
  const auto body = CheckedMul(h.tokens, *each);
  if (!body || *body != file.size() - kHeaderBytes) {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("{} tokens of {} bytes do not make {} bytes", h.tokens, *each, file.size() - kHeaderBytes),
                {.file = path, .offset = 80});
  }
  if (h.rope_length < h.tokens || h.rope_length > (uint64_t{1} << 40)) {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("the sequence's length {} cannot be", h.rope_length), {.file = path, .offset = 84});
  }
  if (LoadLe<uint32_t>(file.data() + 96) != Crc(file.subspan(kHeaderBytes))) {
    throw Error(ErrorCode::kInvalidFormat, "the checksum of the contents does not fit", {.file = path, .offset = 96});
  }
  return h;
}

void CheckSettings(const Session& session, uint64_t digest, const Header& header, const std::string& path, Bytes file) {
  const auto refuse = [&](std::string what) { throw Error(ErrorCode::kValidationFailed, std::move(what), {.file = path}); };
  if (header.digest != digest) refuse("the prompt cache was made by another model");
  for (const Setting& s : SettingsOf(session.executor())) {
    std::string had(AsText(file.subspan(s.offset, kSettingBytes)));
    had.resize(std::min(had.find('\0'), had.size()));
    if (had != s.value) refuse(fmt::format("the prompt cache was made with {} '{}', this run has '{}'", s.name, had, s.value));
  }
  if (header.bytes_per_token != session.executor().CacheBytesPerToken()) refuse("the prompt cache has rows of another size");
}

}  // namespace

uint64_t CacheDigest(const Session& session) {
  const BoundGraph& model = session.executor().model();
  uint64_t hash = HashBytes(AsBytes(model.graph.ToText()));
  ThreadPool pool(session.executor().threads());
  constexpr size_t kPart = size_t{1} << 22;
  for (const WeightRef& weight : model.weights) {
    const Bytes bytes = weight.view.bytes;
    const size_t parts = (bytes.size() + kPart - 1) / kPart;
    std::vector<uint64_t> hashes(parts);
    pool.ParallelFor(static_cast<int64_t>(parts), 1, [&](int64_t begin, int64_t end, int) {
      for (auto p = static_cast<size_t>(begin); p < static_cast<size_t>(end); ++p) {
        hashes[p] = HashBytes(bytes.subspan(p * kPart, std::min(kPart, bytes.size() - p * kPart)));
      }
    });
    hash = Mix(hash, static_cast<uint64_t>(weight.view.dtype));
    for (const uint64_t h : hashes) hash = Mix(hash, h);
    if (weight.row_order) hash = Mix(hash, HashBytes(std::as_bytes(std::span(*weight.row_order))));
    hash = Mix(hash, std::bit_cast<uint64_t>(weight.add));
  }
  return hash;
}

void SavePromptCache(const Session& session, int sequence, uint64_t digest, const std::string& path, Overwrite overwrite) {
  const Executor& executor = session.executor();
  const std::vector<int32_t>& ids = session.ids(sequence);
  if (executor.CacheBytesPerToken() > UINT32_MAX) throw Error(ErrorCode::kInference, "a token's cache is too large for a file");
  std::vector<std::byte> header(kHeaderBytes);
  std::ranges::copy(AsBytes(kMagic), header.begin());
  StoreLe(header.data() + 4, kVersion);
  StoreLe(header.data() + 8, digest);
  for (const Setting& s : SettingsOf(executor)) {
    std::ranges::copy(AsBytes(std::string_view(s.value).substr(0, kSettingBytes)), header.begin() + static_cast<ptrdiff_t>(s.offset));
  }
  StoreLe(header.data() + 80, static_cast<uint32_t>(ids.size()));
  StoreLe(header.data() + 84, static_cast<uint64_t>(executor.RopeLength(sequence)));
  StoreLe(header.data() + 92, static_cast<uint32_t>(executor.CacheBytesPerToken()));

  OutputFile file(path, overwrite);
  file.Write(header);
  uint32_t crc = 0;
  const auto write = [&](Bytes bytes) {
    crc = Crc(bytes, crc);
    file.Write(bytes);
  };
  write(std::as_bytes(std::span(ids)));
  executor.SaveCache(sequence, write);
  StoreLe(header.data() + 96, crc);
  StoreLe(header.data() + 100, Crc(Bytes(header).first(100)));
  file.WriteAt(0, header);
  file.Commit();
}

int64_t RestorePromptCache(Session& session, int sequence, uint64_t digest, const std::string& path, std::span<const int32_t> prompt) {
  const auto mapped = MappedFile::Open(path);
  const Bytes file = mapped->bytes();
  const Header header = ReadHeader(path, file);
  CheckSettings(session, digest, header, path, file);
  const int64_t vocabulary = session.model().config().vocab_size;
  std::vector<int32_t> ids(header.tokens);
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = LoadLe<int32_t>(file.data() + kHeaderBytes + 4 * i);
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      throw Error(ErrorCode::kInvalidFormat, fmt::format("token {} of {} is {}", i, ids.size(), ids[i]), {.file = path, .offset = kHeaderBytes + 4 * i});
    }
  }
  const auto same = std::ranges::mismatch(prompt, ids).in1 - prompt.begin();
  const int64_t kept = std::min<int64_t>(same, static_cast<int64_t>(prompt.size()) - 1);
  if (kept <= 0) return 0;
  session.Restore(sequence, ids, static_cast<int64_t>(header.rope_length), file.subspan(kHeaderBytes + 4 * ids.size()));
  session.Truncate(sequence, kept);
  return kept;
}

}  // namespace apr
