// Fuzz target of the GGUF reader. Its mutator also puts edge values where a length, count, dim or
// offset may stand.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "format/fuzz_support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  apr::FuzzModelFile({reinterpret_cast<const std::byte*>(data), size}, "fuzz.gguf");
  return 0;
}

#ifdef APR_LIBFUZZER
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  apr::FuzzRandom random(seed);
  if (size < 24 || random.Below(3) > 0) return LLVMFuzzerMutate(data, size, max_size);
  // Lengths are small 64-bit numbers at any byte offset: look for one from a random place on.
  const size_t start = random.Below(size - 8);
  for (size_t i = 0; i < size - 8; ++i) {
    const size_t at = (start + i) % (size - 8);
    const auto value = apr::LoadLe<uint64_t>(data + at);
    if (value == 0 || value > size) continue;
    const uint64_t put = random.Below(2) == 0 ? random.Edge(size) : value + random.Below(5) - 2;
    apr::StoreLe(data + at, put);
    return size;
  }
  return LLVMFuzzerMutate(data, size, max_size);
}
#endif
