// See fuzz_support.h.
#include "format/fuzz_support.h"

#include <cstdlib>

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

}  // namespace apr
