// The inner loops of comparing: sums, extremes and counts over at most 256 pairs of f32 elements, one
// kernel per instruction set, all with the same bits: lanes added up in one order. Products are exact and add up in f64.
// Two of each: one of a chunk, and one of several whole runs of 256 elements, for data that the first cache holds.
#pragma once

#include <cstdint>
#include <limits>

#include "base/cpu_features.h"

namespace apr {

inline constexpr int kChunk = 256;

inline constexpr float kSmallDifference = 0.001f, kMediumDifference = 0.01f;

// d = |a - b|, rounded to f32; the sums of products are in f64, each product exact; the sum of d is in f32 within a
// lane (16 terms), in f64 over the lanes.
struct ChunkSums {
  double abs = 0, sq = 0, aa = 0, bb = 0, ab = 0;
  float max_d = 0;
  float max_a = 0;
  float excess = 0;        // largest d - kappa * |a|, 0 if none is positive; max_d where kappa is 0
  int32_t identical = 0;   // d == 0
  int32_t below_small = 0;   // d < kSmallDifference
  int32_t below_medium = 0;  // d < kMediumDifference
  // Every element, every difference and the sum of the latter in f32 is; else nothing else is meant. The products of f32
  // values are below 2^257: their sums in f64 are finite whenever the elements are.
  bool finite() const { return abs < kInfinite && sq < kInfinite && aa < kInfinite && bb < kInfinite; }

 private:
  static constexpr double kInfinite = std::numeric_limits<double>::infinity();
};

// Whole vectors of sixteen: padded <= kChunk.
using ChunkKernel = ChunkSums (*)(const float* a, const float* b, int padded, float kappa);

ChunkKernel ChunkKernelFor(Isa isa);

// Any count <= kChunk.
ChunkSums CompareChunk(ChunkKernel kernel, const float* a, const float* b, int count, float kappa);

ChunkSums CompareChunkScalar(const float* a, const float* b, int padded, float kappa);
ChunkSums CompareChunkAvx2(const float* a, const float* b, int padded, float kappa);
ChunkSums CompareChunkAvx512(const float* a, const float* b, int padded, float kappa);

// Of kPart elements side by side.
inline constexpr int kPart = 32, kParts = kChunk / kPart;
struct PartSums {
  double sq = 0;                // of a - b, in f64; infinite or NaN where one of them is not finite
  double max_d = 0, max_a = 0;
};
// count <= kChunk; the last part may be shorter. The same bits under every instruction set.
void SumParts(Isa isa, const float* a, const float* b, int count, PartSums (&out)[kParts]);
void SumPartsAvx2(const float* a, const float* b, PartSums (&out)[kParts]);  // of kChunk elements

// How the elements of a run lie in memory, at any address: halves are widened on the way, which is exact.
enum class RunType { kF32, kF16, kBF16 };

// Up to kQuickRuns runs of kChunk elements, each by itself. Products add up in f64 in sixteen lanes of 16 fused terms, and
// (a - b)^2 is had from them unless they cancel; `abs` adds up in f32, in as many: it errs by at most 20 * 2^-24 of itself.
inline constexpr int kQuickRuns = 8;
enum QuickProduct { kSq, kAa, kBb, kAb };  // (a - b)^2, a^2, b^2, a * b
constexpr double SquaresFrom(double aa, double bb, double ab) { return (aa - ab) - (ab - bb); }
// Whether so little is left of the sums that (a - b)^2 has to be added up by itself. What is left otherwise errs by at most
// 40 * 2^-53 of the sums, 2^-30 of itself; some 2^-37 as a rule. Rounding to eight bits leaves more.
constexpr bool Cancels(const double (&sums)[4]) { return !(sums[kSq] > 0x1p-17 * sums[kAa] && sums[kSq] > 0x1p-17 * sums[kBb]); }
struct QuickTile {
  alignas(64) float sq[kQuickRuns], max_d[kQuickRuns], max_a[kQuickRuns];  // run by run
  // Of all runs. Products add up run after run; `abs` of runs 0-3 and 4-7 side by side, then as (0 + 1) + (2 + 3).
  double products[4];
  double abs = 0;
  int32_t identical = 0, below_small = 0, below_medium = 0;
  bool sound = false;  // every difference is below kQuickMost, so every element is finite; else nothing here means anything
};
inline constexpr float kQuickMost = 0x1p119f;  // 256 of them add up in f32
using QuickKernel = void (*)(const void* const* a, const void* const* b, int runs, QuickTile& out);

// At least one of the two is kF32: a quantised side comes decoded.
QuickKernel QuickKernelFor(Isa isa, RunType a, RunType b);

// Of one instruction set, [RunType of a][RunType of b]; null where neither is kF32.
struct QuickKernels {
  QuickKernel of[3][3];
};
extern const QuickKernels kQuickScalar, kQuickAvx2;

}  // namespace apr
