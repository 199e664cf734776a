// Fuzz target of the APR reader. Its mutator renews the header's checksum (and often the footer's), so
// that the fields behind it are reached, and puts edge values into header and index.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "format/apr_header.h"
#include "format/fuzz_support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  apr::FuzzModelFile({reinterpret_cast<const std::byte*>(data), size}, "fuzz.apr");
  return 0;
}

#ifdef APR_LIBFUZZER
namespace {

constexpr size_t kHeader = apr::kAprHeaderBytes;

void RenewChecksums(uint8_t* data, size_t size, bool footer) {
  const apr::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  const uint32_t crc = apr::Crc32(bytes.subspan(44, kHeader - 44), apr::Crc32(bytes.subspan(0, 40)));
  apr::StoreLe(data + 40, crc);
  if (footer && size >= kHeader + 4) {
    apr::StoreLe(data + size - 4, apr::Crc32(bytes.subspan(0, size - 4)));
  }
}

void PutEdge(uint8_t* data, size_t size, apr::FuzzRandom* random) {
  constexpr size_t kFields[][2] = {{6, 2}, {8, 4}, {12, 8}, {20, 4}, {24, 8}, {32, 8}};
  const auto index = apr::LoadLe<uint64_t>(data + 24);
  const bool in_index = random->Below(2) == 0 && index < size && size - index > 16;
  size_t at = kFields[random->Below(6)][0], width = 8;
  if (in_index) at = index + random->Below(size - index - 8);
  else for (const auto& field : kFields) width = field[0] == at ? field[1] : width;
  const uint64_t value = random->Edge(size);
  std::memcpy(data + at, &value, std::min<size_t>(width, size - at));
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  apr::FuzzRandom random(seed);
  if (size >= kHeader && random.Below(3) == 0) PutEdge(data, size, &random);
  else size = LLVMFuzzerMutate(data, size, max_size);
  if (size >= kHeader && random.Below(8) > 0) RenewChecksums(data, size, random.Below(2) == 0);
  return size;
}
#endif
