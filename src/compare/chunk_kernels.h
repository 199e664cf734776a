// The inner loops of comparing: sums, extremes and counts over at most 256 pairs of f32 elements, one
// kernel per instruction set, all with the same bits: sixteen lanes, added up in one order. Two of each: one exact
// to f64, and one for 256 elements of which a side is quantised, whose sums within a chunk are in f32.
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
  // Every element and every difference is; else nothing else is meant. The products of f32 values are below 2^257:
  // their sums in f64 are finite exactly then.
  bool finite() const { return sq < kInfinite && aa < kInfinite && bb < kInfinite; }

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

struct QuickChunk {
  float abs = 0, sq = 0, aa = 0, bb = 0, ab = 0, max_d = 0, max_a = 0;
  int32_t identical = 0, below_small = 0, below_medium = 0;
  // Else nothing else is meant: an element, a difference or a sum is not finite in f32, or a sum of squares is so small
  // that products were lost. The ChunkKernel is to be asked.
  bool sound = false;
};

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

// Up to kQuickRuns runs of kChunk elements, each by itself. A lane adds sixteen fused products in f32, four more additions join the lanes: a sum errs by at most
// 20 * 2^-24 < 1.2e-6 of the sum of its sizes, so the root mean square of a whole tensor by 6e-7 of itself, NMSE by 2.4e-6
// of itself, the cosine by 2.4e-6 at the very most.
inline constexpr int kQuickRuns = 8;
struct QuickTile {  // QuickChunk, run by run; what is not sound means nothing
  alignas(64) float abs[kQuickRuns], sq[kQuickRuns], aa[kQuickRuns], bb[kQuickRuns], ab[kQuickRuns], max_d[kQuickRuns], max_a[kQuickRuns];
  int32_t identical[kQuickRuns], below_small[kQuickRuns], below_medium[kQuickRuns];
  uint32_t sound = 0;  // a bit for each run
};
using QuickKernel = void (*)(const void* const* a, const void* const* b, int runs, QuickTile& out);

// A kernel of single runs as one of several.
template <QuickChunk (*kOne)(const void* a, const void* b)>
void RunByRun(const void* const* a, const void* const* b, int runs, QuickTile& out) {
  out.sound = 0;
  for (int r = 0; r < runs; ++r) {
    const QuickChunk chunk = kOne(a[r], b[r]);
    out.abs[r] = chunk.abs, out.sq[r] = chunk.sq, out.aa[r] = chunk.aa, out.bb[r] = chunk.bb, out.ab[r] = chunk.ab;
    out.max_d[r] = chunk.max_d, out.max_a[r] = chunk.max_a;
    out.identical[r] = chunk.identical, out.below_small[r] = chunk.below_small, out.below_medium[r] = chunk.below_medium;
    out.sound |= chunk.sound ? 1u << r : 0;
  }
}

// At least one of the two is kF32: a quantised side comes decoded.
QuickKernel QuickKernelFor(Isa isa, RunType a, RunType b);

// Of one instruction set, [RunType of a][RunType of b]; null where neither is kF32.
struct QuickKernels {
  QuickKernel of[3][3];
};
extern const QuickKernels kQuickScalar, kQuickAvx2, kQuickAvx512;

// The sums of squares between which f32 loses nothing: 256 products that underflow err by 2^-142 in all.
inline constexpr float kQuickLeast = 0x1p-110f;

}  // namespace apr
