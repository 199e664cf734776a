// The inner loop of comparing: sums, extremes and counts over at most 256 pairs of f32 elements, one
// kernel per instruction set, all with the same bits: sixteen lanes, added up in one order.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"

namespace apr {

inline constexpr int kChunk = 256;

// d = |a - b|, rounded to f32; the sums are in f64, each product exact.
struct ChunkSums {
  double abs = 0, sq = 0, aa = 0, bb = 0, ab = 0;
  float max_d = 0;
  float max_a = 0;
  float excess = 0;        // largest d - kappa * |a|, 0 if none is positive
  int32_t identical = 0;   // d == 0
  int32_t below_small = 0;   // d < 0.001
  int32_t below_medium = 0;  // d < 0.01
  bool finite = true;      // every element and every difference; else nothing else is meant
};

// count <= kChunk.
using ChunkKernel = ChunkSums (*)(const float* a, const float* b, int count, float kappa);

ChunkKernel ChunkKernelFor(Isa isa);

ChunkSums CompareChunkScalar(const float* a, const float* b, int count, float kappa);
ChunkSums CompareChunkAvx2(const float* a, const float* b, int count, float kappa);
ChunkSums CompareChunkAvx512(const float* a, const float* b, int count, float kappa);

}  // namespace apr
