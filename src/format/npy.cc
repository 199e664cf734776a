// See npy.h.
#include "format/npy.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace apr {
namespace {

const char* Descriptor(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "<f4";
    case DType::kF64: return "<f8";
    case DType::kI64: return "<i8";
    default: throw Error(ErrorCode::kInternal, fmt::format("no .npy type for {}", NameOf(dtype)));
  }
}

std::string NpyHeader(DType dtype, const Shape& shape) {
  std::string dims;
  for (const int64_t dim : shape.dims()) dims += fmt::format("{},", dim);
  std::string text =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", Descriptor(dtype), dims);
  constexpr size_t kPrefix = 10;  // magic, version, u16 header length
  text.resize(AlignUp(kPrefix + text.size() + 1, 64) - kPrefix - 1, ' ');
  text += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(text.size() & 0xFF);
  out += static_cast<char>(text.size() >> 8);
  return out + text;
}

}  // namespace

NpyWriter::NpyWriter(std::string path, DType dtype, const Shape& shape, Overwrite overwrite)
    : file_(std::move(path), overwrite), missing_(*StorageBytes(dtype, shape)) {
  file_.Write(NpyHeader(dtype, shape));
}

void NpyWriter::Write(Bytes bytes) {
  APR_CHECK(bytes.size() <= missing_);
  missing_ -= bytes.size();
  file_.Write(bytes);
}

void NpyWriter::Commit() {
  APR_CHECK(missing_ == 0);
  file_.Commit();
}

}  // namespace apr
