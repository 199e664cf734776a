// Rows of numbers to the bytes of a tensor: by all threads, a bounded number of rows at a time.
#pragma once

#include <functional>

#include "format/model_writer.h"
#include "model/export_tensors.h"

namespace apr {

struct RowStream {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const float* importance = nullptr;                        // [cols] or null
  std::function<void(int64_t row, float* out)> read_row;    // called by any thread
  std::string name;                                         // for errors
};

// Encodes all rows in order and hands the bytes to `sink`. In memory at a time: a few pieces of
// kPieceElements per thread; for the .apr types whose scale spans the tensor, the tensor. Throws
// kValidationFailed when rows are no whole blocks (unless .apr pads them), or a value does not fit.
void EncodeStream(const RowStream& stream, const EncodeContext& context, const ByteSink& sink);

}  // namespace apr
