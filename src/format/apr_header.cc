// See apr_header.h.
#include "format/apr_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/error.h"

namespace apr {
namespace {

constexpr uint64_t kChecksumOffset = 40;

// Codes of the format's own list first, then the ggml type number: the order in which meanings are
// tried.
struct CodeRow {
  uint8_t code;
  DType dtype;
  bool written;
};
constexpr CodeRow kCodes[] = {
    {0, DType::kF32, true},   {1, DType::kF16, true},    {30, DType::kBF16, true},
    {3, DType::kF64, true},   {4, DType::kI32, true},    {5, DType::kI64, true},
    {6, DType::kI8, true},    {7, DType::kU8, true},     {12, DType::kQ4_K, true},
    {14, DType::kQ6_K, true}, {128, DType::kAprQ4, true}, {129, DType::kAprQ8, true},
    {8, DType::kAprQ4, false}, {9, DType::kAprQ8, false}, {2, DType::kQ4_0, false},
    {3, DType::kQ4_1, false}, {6, DType::kQ5_0, false},  {7, DType::kQ5_1, false},
    {10, DType::kQ2_K, false}, {11, DType::kQ3_K, false}, {13, DType::kQ5_K, false},
    {16, DType::kIQ2_XXS, false}, {17, DType::kIQ2_XS, false}, {18, DType::kIQ3_XXS, false},
    {19, DType::kIQ1_S, false}, {20, DType::kIQ4_NL, false}, {21, DType::kIQ3_S, false},
    {22, DType::kIQ2_S, false}, {23, DType::kIQ4_XS, false}, {29, DType::kIQ1_M, false},
};

uint32_t HeaderChecksum(Bytes header) {
  const uint32_t crc = Crc32(header.subspan(0, kChecksumOffset));
  return Crc32(header.subspan(kChecksumOffset + 4, kAprHeaderBytes - kChecksumOffset - 4), crc);
}

}  // namespace

AprHeader ParseAprHeader(Bytes bytes, const std::string& file) {
  ByteReader reader(bytes, file);
  const Bytes header = reader.ReadBytes(kAprHeaderBytes, "the header");
  ByteReader fields(header, file);
  const std::string_view magic = AsText(fields.ReadBytes(4, "the magic"));
  if (magic != std::string_view("APR\0", 4) && magic != "APR2") {
    reader.FailAt(0, magic == "APR1" || magic == "APRN" ? "APR v1 is not supported, only APR v2"
                                                        : "not an APR file: the magic is wrong");
  }
  const auto stored = LoadLe<uint32_t>(header.data() + kChecksumOffset);
  const uint32_t computed = HeaderChecksum(header);
  if (stored != computed) {
    reader.FailAt(kChecksumOffset, fmt::format("the header's checksum is {:08x}, its bytes give {:08x}",
                                               stored, computed));
  }
  AprHeader out;
  out.version_major = fields.Read<uint8_t>("version");
  out.version_minor = fields.Read<uint8_t>("version");
  out.flags = fields.Read<uint16_t>("flags");
  out.tensor_count = fields.Read<uint32_t>("tensor count");
  out.metadata_offset = fields.Read<uint64_t>("metadata offset");
  out.metadata_size = fields.Read<uint32_t>("metadata size");
  out.index_offset = fields.Read<uint64_t>("index offset");
  out.data_offset = fields.Read<uint64_t>("data offset");
  if (out.version_major != 2) {
    reader.FailAt(4, fmt::format("APR version {} is not supported, only 2", out.version_major));
  }
  if (out.flags & kAprColumnMajor) reader.FailAt(6, "column-major tensors (flag 0x0800) are forbidden");
  if (out.flags & kAprEncrypted) reader.FailAt(6, "the file is encrypted (flag 0x0004): not supported");
  return out;
}

std::array<std::byte, kAprHeaderBytes> EncodeAprHeader(const AprHeader& header) {
  std::array<std::byte, kAprHeaderBytes> out{};
  const auto store = [&](size_t at, auto value) { StoreLe(out.data() + at, value); };
  const Bytes magic = AsBytes(std::string_view("APR\0", 4));
  std::copy(magic.begin(), magic.end(), out.begin());
  store(4, header.version_major);
  store(5, header.version_minor);
  store(6, header.flags);
  store(8, header.tensor_count);
  store(12, header.metadata_offset);
  store(20, header.metadata_size);
  store(24, header.index_offset);
  store(32, header.data_offset);
  store(kChecksumOffset, HeaderChecksum(out));
  return out;
}

std::optional<uint64_t> AprStorageBytes(DType dtype, const Shape& shape) {
  const uint32_t block = InfoOf(dtype).block_elems;
  if (block != 256) return StorageBytes(dtype, shape);
  if (!shape.NumElementsChecked()) return std::nullopt;
  if (shape.num_elements() == 0) return 0;
  const uint64_t blocks = (static_cast<uint64_t>(shape.cols()) + block - 1) / block;
  const auto all = CheckedMul(static_cast<uint64_t>(shape.rows()), blocks);
  return all ? CheckedMul(*all, InfoOf(dtype).block_bytes) : std::nullopt;
}

std::optional<DType> DTypeFromAprCode(uint8_t code, const Shape& shape, uint64_t bytes) {
  for (const CodeRow& row : kCodes) {
    if (row.code == code && AprStorageBytes(row.dtype, shape) == bytes) return row.dtype;
  }
  return std::nullopt;
}

bool IsAprCode(uint8_t code) {
  return std::ranges::any_of(kCodes, [&](const CodeRow& row) { return row.code == code; });
}

std::optional<uint8_t> AprCodeOf(DType dtype) {
  for (const CodeRow& row : kCodes) {
    if (row.dtype == dtype && row.written) return row.code;
  }
  return std::nullopt;
}

}  // namespace apr
