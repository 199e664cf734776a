// A quantised block taken apart for people: its scales, its packed fields, its decoded elements.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "tensor/tensor.h"

namespace apr {

struct BlockDescription {
  int64_t index = 0;            // block of the tensor
  int64_t first_element = 0;
  uint64_t offset = 0;          // of its first byte, in the tensor
  Bytes bytes;
  std::vector<std::pair<std::string, std::vector<double>>> fields;  // "d" {0.0012}, "scales" {3, 7, ...}
  std::vector<float> values;    // empty where the type has no decoder
};

// Blocks [first, first + count) of a block type (as many as there are), rows padded to whole blocks
// included. Empty for types that have no blocks.
std::vector<BlockDescription> DescribeBlocks(const TensorView& view, int64_t first, int64_t count);

// How the elements of a tensor are spread.
struct Distribution {
  double min = 0, max = 0, mean = 0, std = 0;  // of the finite elements
  double skewness = 0, kurtosis = 0;           // third and fourth standardised moment (3 for a Gaussian)
  uint64_t finite = 0;
  std::vector<uint64_t> bins;                  // of equal width from min to max
};
// Decodes the tensor twice, in pieces. No finite element: all zero.
Distribution DistributionOf(const TensorView& view, int bins);

// Shannon entropy of the byte values, in bits per byte (0 to 8). 0 for no bytes.
double ByteEntropy(Bytes bytes);

}  // namespace apr
