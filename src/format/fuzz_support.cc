// See fuzz_support.h.
#include "format/fuzz_support.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"
#include "format/apr_reader.h"
#include "format/model_file.h"

namespace apr {
namespace {

void UseValue(const MetaValue& value, size_t* used) {
  *used += value.ToString().size() + value.AsStrings().size() + value.AsDoubles().size();
  *used += value.AsInts().size() + value.AsFloats().size() + value.AsInt().value_or(0) % 3;
  for (const std::string_view text : value.AsStrings()) *used += text.empty() ? 0 : text.back() == 'x';
  for (const MetaValue& inner : value.AsArrays()) UseValue(inner, used);
}

void UseTensor(const ModelFile& file, const TensorInfo& info, size_t* used) {
  const TensorView view = file.View(info);
  for (const std::byte b : view.bytes) *used += static_cast<size_t>(b);
  if (file.Find(info.name) == nullptr) std::abort();
  if (static_cast<uint64_t>(view.rows()) * view.row_bytes() > view.bytes.size()) std::abort();
}

}  // namespace

void FuzzModelFile(Bytes bytes, const char* name) {
  try {
    const auto file = ModelFile::FromMapped(MappedFile::Borrowed(name, bytes));
    size_t used = 0;
    for (const TensorInfo& info : file->tensors()) UseTensor(*file, info, &used);
    for (const auto& [key, value] : file->metadata()) UseValue(value, &used);
    if (file->container() != Container::kApr) return;
    CheckAprModelShapes(*file);
    ValidateApr(*file);
  } catch (const Error& error) {
    if (error.context().file.empty()) std::abort();
    if (!error.context().offset && error.context().tensor.empty()) std::abort();
  }
}

uint64_t FuzzRandom::Next() {
  state_ ^= state_ << 13;
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  return state_;
}

uint64_t FuzzRandom::Edge(uint64_t size) {
  const uint64_t edges[] = {0, 1, 2, 31, 32, 64, 65, 255, 256, 65535, 65536, uint64_t{1} << 31,
                            uint64_t{1} << 32, uint64_t{1} << 61, uint64_t{1} << 62,
                            uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 31, size - 1, size, size + 1,
                            size / 2};
  return edges[Below(std::size(edges))];
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

size_t MutateSafetensors(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  FuzzRandom random(seed);
  const bool whole = size < 16 || max_size < 64 || random.Below(4) == 0;
  if (whole || LoadLe<uint64_t>(data) > size - 8) return LLVMFuzzerMutate(data, size, max_size);
  const size_t room = max_size - 8;
  std::string text(reinterpret_cast<char*>(data) + 8, LoadLe<uint64_t>(data));
  const size_t old = text.size();
  text.resize(std::max(old, room));
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), old, room));
  const uint64_t data_bytes = std::min<uint64_t>(LargestNumber(text, 4096), room - text.size());
  StoreLe<uint64_t>(data, text.size());
  std::memcpy(data + 8, text.data(), text.size());
  std::memset(data + 8 + text.size(), 0, data_bytes);
  return 8 + text.size() + data_bytes;
}
#endif

}  // namespace apr
