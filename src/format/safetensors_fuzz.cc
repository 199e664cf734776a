// Fuzz target of the safetensors reader. Its mutator works on the JSON header and then makes length and
// data fit it, so that the checks behind the first are reached.
#include "format/fuzz_support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  apr::FuzzModelFile({reinterpret_cast<const std::byte*>(data), size}, "fuzz.safetensors");
  return 0;
}

#ifdef APR_LIBFUZZER
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return apr::MutateSafetensors(data, size, max_size, seed);
}
#endif
