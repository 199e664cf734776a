// See apr_payload.h.
#include "format/apr_payload.h"

#include <fmt/format.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace apr {
namespace {

// A raw LZ4 block cannot expand by more than 255; weights never come near it in either format.
constexpr uint64_t kMaxRatio = 255;
// A file this small may be all zeros, which Zstandard packs a thousandfold.
constexpr uint64_t kAlwaysPlausible = 16 << 20;

[[noreturn]] void Refuse(const MappedFile& file, std::string message) {
  throw Error(ErrorCode::kInvalidFormat, std::move(message),
              {.file = file.path(), .offset = kAprHeaderBytes});
}

void CheckPlausible(const MappedFile& file, uint64_t payload, uint64_t size) {
  const uint64_t ratio_limit = payload * kMaxRatio;
  if (size <= ratio_limit) return;
  if (size <= kAlwaysPlausible && (LoadLe<uint16_t>(file.bytes().data() + 6) & kAprZstd)) return;
  Refuse(file, fmt::format("a compressed payload of {} bytes cannot hold the {} bytes it declares",
                           payload, size));
}

template <typename Fill>
std::shared_ptr<const MappedFile> WithHeader(const MappedFile& file, uint64_t size, Fill fill) {
  return MappedFile::InMemory(file.path(), kAprHeaderBytes + size, [&](std::span<std::byte> out) {
    std::memcpy(out.data(), file.bytes().data(), kAprHeaderBytes);
    fill(out.subspan(kAprHeaderBytes));
  });
}

std::shared_ptr<const MappedFile> DecompressLz4(const MappedFile& file, Bytes payload) {
  if (payload.size() < 4) Refuse(file, "truncated: the LZ4 payload lacks its size");
  const uint64_t size = LoadLe<uint32_t>(payload.data());
  const Bytes block = payload.subspan(4);
  if (block.size() > LZ4_MAX_INPUT_SIZE || size > LZ4_MAX_INPUT_SIZE) {
    Refuse(file, fmt::format("an LZ4 block of {} bytes is above the format's limit", size));
  }
  CheckPlausible(file, block.size(), size);
  return WithHeader(file, size, [&](std::span<std::byte> out) {
    const int got = LZ4_decompress_safe(reinterpret_cast<const char*>(block.data()),
                                        reinterpret_cast<char*>(out.data()),
                                        static_cast<int>(block.size()), static_cast<int>(out.size()));
    if (got < 0 || static_cast<uint64_t>(got) != size) Refuse(file, "the LZ4 block is damaged");
  });
}

std::shared_ptr<const MappedFile> DecompressZstd(const MappedFile& file, Bytes payload) {
  const unsigned long long size = ZSTD_getFrameContentSize(payload.data(), payload.size());
  if (size == ZSTD_CONTENTSIZE_ERROR) Refuse(file, "the payload is no Zstandard frame");
  if (size == ZSTD_CONTENTSIZE_UNKNOWN) {
    Refuse(file, "the Zstandard frame does not say how large its content is");
  }
  CheckPlausible(file, payload.size(), size);
  return WithHeader(file, size, [&](std::span<std::byte> out) {
    const size_t got = ZSTD_decompress(out.data(), out.size(), payload.data(), payload.size());
    if (ZSTD_isError(got)) {
      Refuse(file, fmt::format("the Zstandard frame is damaged: {}", ZSTD_getErrorName(got)));
    }
    if (got != size) Refuse(file, "the Zstandard frame holds less than it declares");
  });
}

}  // namespace

bool StartsWithCompressedPayload(Bytes file, const AprHeader& header) {
  const uint64_t at = header.metadata_offset;
  const uint64_t size = header.metadata_size;
  if (at < kAprHeaderBytes || at >= file.size() || size < 2 || size > file.size() - at) return true;
  // In the raw file a JSON object stands here, and zeros fill the gap up to the index. In a compressed
  // one the size, or Zstandard's magic, stands here instead.
  const Bytes gap = header.index_offset > at + size && header.index_offset <= file.size()
                        ? file.subspan(at + size, header.index_offset - at - size)
                        : Bytes();
  return file[at] != std::byte{'{'} || file[at + 1] == std::byte{0} ||
         file[at + size - 1] != std::byte{'}'} ||
         std::ranges::any_of(gap, [](std::byte b) { return b != std::byte{0}; });
}

std::shared_ptr<const MappedFile> DecompressAprPayload(const MappedFile& file,
                                                       const AprHeader& header) {
  const Bytes payload = file.bytes().subspan(kAprHeaderBytes);
  if (header.flags & kAprZstd) return DecompressZstd(file, payload);
  return DecompressLz4(file, payload);
}

}  // namespace apr
