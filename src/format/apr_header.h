// The 64-byte header of an APR v2 file, and the numbers of its element types. Byte table:
// docs/formats/apr.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.h"
#include "tensor/tensor.h"

namespace apr {

inline constexpr uint64_t kAprHeaderBytes = 64;
inline constexpr uint64_t kAprAlignment = 64;
inline constexpr uint64_t kAprMaxMetadataBytes = 16 << 20;
inline constexpr uint64_t kAprMaxDataOffset = 256 << 20;
inline constexpr uint64_t kAprMaxNameBytes = 256;

enum AprFlag : uint16_t {
  kAprLz4 = 0x0001,
  kAprZstd = 0x0002,
  kAprEncrypted = 0x0004,
  kAprSigned = 0x0008,
  kAprSharded = 0x0010,
  kAprQuantized = 0x0020,
  kAprFilterbank = 0x0040,
  kAprModelCard = 0x0080,
  kAprStreaming = 0x0100,
  kAprHasVocab = 0x0200,
  kAprRowMajor = 0x0400,
  kAprColumnMajor = 0x0800,
};

struct AprHeader {
  uint8_t version_major = 2;
  uint8_t version_minor = 0;
  uint16_t flags = kAprRowMajor;
  uint32_t tensor_count = 0;
  uint64_t metadata_offset = kAprHeaderBytes;
  uint32_t metadata_size = 0;  // without padding
  uint64_t index_offset = 0;
  uint64_t data_offset = 0;
};

// Checks magic, checksum, version and the flags that forbid reading. `file` is named in errors.
AprHeader ParseAprHeader(Bytes bytes, const std::string& file);
std::array<std::byte, kAprHeaderBytes> EncodeAprHeader(const AprHeader& header);

// CRC-32/ISO-HDLC of `bytes`, continuing from `crc` (0 at the start).
uint32_t Crc32(Bytes bytes, uint32_t crc = 0);

// A range of bytes whose checksum was computed apart, beginning with 0.
struct KnownCrc {
  uint64_t offset = 0, bytes = 0;
  uint32_t crc = 0;
};
// Of all of `bytes`, from those of disjoint ranges in ascending order and the bytes between them.
uint32_t Crc32Of(Bytes bytes, std::span<const KnownCrc> known);

// Bytes of `shape` stored as `dtype` in .apr: K-quant rows are padded to whole blocks. nullopt on
// overflow.
std::optional<uint64_t> AprStorageBytes(DType dtype, const Shape& shape);

// The type that `code` means for a tensor of this shape and size: several codes have two meanings, told
// apart by the exact size. nullopt: unknown code, or a size that fits no meaning.
std::optional<DType> DTypeFromAprCode(uint8_t code, const Shape& shape, uint64_t bytes);
// True for a code that some tensor may have.
bool IsAprCode(uint8_t code);
// The code a writer stores: 0, 1, 30, 12, 14, 128, 129, and 3 to 7 for the plain types that have them.
// nullopt: .apr has no code for the type that every reader understands.
std::optional<uint8_t> AprCodeOf(DType dtype);

}  // namespace apr
