// NumPy's .npy files, version 1.0, written row by row (numpy/lib/format.py of numpy/numpy has the
// layout: magic, header length, a Python dict padded to 64 bytes, elements in C order).
#pragma once

#include <cstdint>
#include <string>

#include "base/output_file.h"
#include "tensor/tensor.h"

namespace apr {

class NpyWriter {
 public:
  // `dtype`: kF32, kF64 or kI64. Throws what OutputFile throws.
  NpyWriter(std::string path, DType dtype, const Shape& shape, Overwrite overwrite);

  // The next elements in row-major order; they must be of the writer's type.
  void Write(Bytes bytes);
  // All elements of the shape must have been written.
  void Commit();

 private:
  OutputFile file_;
  uint64_t missing_;  // bytes
};

}  // namespace apr
