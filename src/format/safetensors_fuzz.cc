// Fuzz target of the safetensors reader. Its mutator works on the JSON header and then makes length and
// data fit it, so that the checks behind the first are reached.
#include <algorithm>
#include <cstring>
#include <string>

#include "base/bytes.h"
#include "format/fuzz_support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  apr::FuzzModelFile({reinterpret_cast<const std::byte*>(data), size}, "fuzz.safetensors");
  return 0;
}

#ifdef APR_LIBFUZZER
namespace {

// The largest number in the text up to `limit`: the end of the data, if the header is a sane one.
uint64_t LargestNumber(const std::string& text, uint64_t limit) {
  uint64_t largest = 0, number = 0;
  for (const char c : text + ",") {
    if (c >= '0' && c <= '9') {
      number = std::min<uint64_t>(number * 10 + static_cast<uint64_t>(c - '0'), limit + 1);
    } else {
      if (number <= limit) largest = std::max(largest, number);
      number = 0;
    }
  }
  return largest;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  apr::FuzzRandom random(seed);
  const bool whole = size < 16 || max_size < 64 || random.Below(4) == 0;
  if (whole || apr::LoadLe<uint64_t>(data) > size - 8) return LLVMFuzzerMutate(data, size, max_size);
  const size_t room = max_size - 8;
  std::string text(reinterpret_cast<char*>(data) + 8, apr::LoadLe<uint64_t>(data));
  const size_t old = text.size();
  text.resize(std::max(old, room));
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), old, room));
  const uint64_t data_bytes = std::min<uint64_t>(LargestNumber(text, 4096), room - text.size());
  apr::StoreLe<uint64_t>(data, text.size());
  std::memcpy(data + 8, text.data(), text.size());
  std::memset(data + 8 + text.size(), 0, data_bytes);
  return 8 + text.size() + data_bytes;
}
#endif
