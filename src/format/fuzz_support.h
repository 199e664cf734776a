// What the fuzz targets of the model containers share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

// libFuzzer's own mutation, for custom mutators. Defined by libFuzzer; absent where inputs are only
// replayed, and not called there.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace apr {

// Opens `bytes` as a model file named `name` and reads all that a command would: every tensor's bytes,
// every metadata value through every getter, the checks beyond opening. apr::Error is an answer;
// anything else ends the process.
void FuzzModelFile(Bytes bytes, const char* name);

#ifdef APR_LIBFUZZER
// For custom mutators: works on the JSON header and then makes length and data fit it.
size_t MutateSafetensors(uint8_t* data, size_t size, size_t max_size, unsigned seed);
#endif

// A small reproducible generator for custom mutators.
class FuzzRandom {
 public:
  explicit FuzzRandom(unsigned seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint64_t Next();
  uint64_t Below(uint64_t limit) { return limit == 0 ? 0 : Next() % limit; }
  // A value that sits at an edge: 0, 1, 2^31, 2^63, -1, near `size`.
  uint64_t Edge(uint64_t size);

 private:
  uint64_t state_;
};

}  // namespace apr
