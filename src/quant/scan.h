// What can be said about stored tensors at the speed of memory: zeros, NaN and infinities of plain
// elements; of quantised ones, the state of every scale without decoding the codes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "tensor/statistics.h"
#include "tensor/tensor.h"

namespace apr {

struct ScanCounts {
  uint64_t elements = 0;
  // Plain types and APR q8: elements. Block types: elements of the blocks that decode to nothing but zeros,
  // so zeros among other values of a block are not counted.
  uint64_t zeros = 0;
  uint64_t nan = 0, inf = 0;    // elements; of block types, those of blocks that have such a scale
  uint64_t bad_scales = 0;      // block types: scales that are NaN or infinite
  uint64_t zero_rows = 0;       // rows of nothing but zeros
  int64_t first_bad = -1;       // index of the first element that nan or inf counts
  int64_t first_zero_row = -1;

  void Merge(const ScanCounts& next);  // of a part that lies behind this one
};

// Types that carry real numbers whose NaN, infinities and zeros are known here.
bool CanScan(DType dtype);

// A part of a tensor that is scanned by itself: whole rows where there are several of them.
struct ScanPiece {
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  int64_t first_row = 0;
  int64_t first_element = 0;   // index in the tensor
  Bytes bytes;
  bool has_rows = true;        // false: a cut through a single row, or blocks that do not end with the rows
  float scale = 1;             // of an APR q8 tensor, whose bytes are then the codes alone
};

// Cuts a tensor into pieces of about `piece_bytes` bytes, in order. Throws kInvalidFormat when its bytes
// do not fit its shape, kNotBuilt when !CanScan.
std::vector<ScanPiece> ScanPieces(const TensorView& view, uint64_t piece_bytes);
// Indices in the result count from the tensor's start.
ScanCounts Scan(const ScanPiece& piece);

// Decodes `view` in pieces of whole rows, in order, so that memory does not follow its size (types whose
// bytes are not whole rows are decoded at once).
void ForEachDecodedPiece(const TensorView& view, const std::function<void(std::span<const float>)>& use);
// Statistics of every element, and of some 2,000 in evenly spaced places (of all in a smaller tensor).
Statistics DecodedStatistics(const TensorView& view);
Statistics SampledStatistics(const TensorView& view);

}  // namespace apr
