// The definition of chunk_kernels.h, and the choice among its kernels.
#include <algorithm>
#include <cmath>
#include <limits>

#include "compare/chunk_kernels.h"

namespace apr {
namespace {

constexpr int kLanes = 16;

struct Lanes {
  double sq[kLanes] = {}, aa[kLanes] = {}, bb[kLanes] = {}, ab[kLanes] = {};
  float abs[kLanes] = {}, max_d[kLanes] = {}, max_a[kLanes] = {}, excess[kLanes] = {};
  int32_t identical = 0, below_small = 0, below_medium = 0;

  void Add(const float* a, const float* b, float kappa) {
    for (int j = 0; j < kLanes; ++j) {
      const float d = std::abs(a[j] - b[j]);
      const float size = std::abs(a[j]);
      const double x = a[j], y = b[j], z = d;
      abs[j] += d;
      sq[j] += z * z;
      aa[j] += x * x;
      bb[j] += y * y;
      ab[j] += x * y;
      max_d[j] = d > max_d[j] ? d : max_d[j];
      max_a[j] = size > max_a[j] ? size : max_a[j];
      const float over = d - kappa * size;
      excess[j] = over > excess[j] ? over : excess[j];
      identical += d == 0.0f;
      below_small += d < kSmallDifference;
      below_medium += d < kMediumDifference;
    }
  }

  template <typename Real>
  static double Total(const Real (&lane)[kLanes]) {
    double half[8];
    for (int j = 0; j < 8; ++j) half[j] = static_cast<double>(lane[j]) + static_cast<double>(lane[j + 8]);
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]));
  }
};

// Sixteen lanes of one chunk in f32.
struct QuickLanes {
  float abs[kLanes] = {}, sq[kLanes] = {}, aa[kLanes] = {}, bb[kLanes] = {}, ab[kLanes] = {}, max_d[kLanes] = {}, max_a[kLanes] = {};

  void Add(const float* a, const float* b) {
    for (int j = 0; j < kLanes; ++j) {
      const float d = std::abs(a[j] - b[j]), size = std::abs(a[j]);
      abs[j] += d;
      sq[j] = std::fma(d, d, sq[j]);
      aa[j] = std::fma(a[j], a[j], aa[j]);
      bb[j] = std::fma(b[j], b[j], bb[j]);
      ab[j] = std::fma(a[j], b[j], ab[j]);
      max_d[j] = d > max_d[j] ? d : max_d[j];
      max_a[j] = size > max_a[j] ? size : max_a[j];
    }
  }

  // In the order of the vector kernels: halves, quarters, pairs.
  static float Total(const float (&lane)[kLanes]) {
    float sum[kLanes];
    std::copy(lane, lane + kLanes, sum);
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; ++j) sum[j] += sum[j + half];
    }
    return sum[0];
  }
};

void Flush(const float (&lane)[kLanes], double (&into)[kLanes]) {
  for (int j = 0; j < kLanes; ++j) into[j] += static_cast<double>(lane[j]);
}

}  // namespace

double LaneSums::Total(const double (&lanes)[kLanes]) { return Lanes::Total(lanes); }

QuickChunk QuickChunkScalar(const float* a, const float* b, LaneSums& sums) {
  QuickLanes lanes;
  QuickChunk out;
  for (int i = 0; i < kChunk; i += kLanes) lanes.Add(a + i, b + i);
  out.sq = QuickLanes::Total(lanes.sq);
  const float aa = QuickLanes::Total(lanes.aa), bb = QuickLanes::Total(lanes.bb);
  out.sound = out.sq >= kQuickLeast && aa >= kQuickLeast && bb >= kQuickLeast && (out.sq + aa) + bb < std::numeric_limits<float>::infinity();
  if (!out.sound) return out;
  out.max_d = *std::max_element(lanes.max_d, lanes.max_d + kLanes);
  out.max_a = *std::max_element(lanes.max_a, lanes.max_a + kLanes);
  for (int i = 0; i < kChunk; ++i) {
    const float d = std::abs(a[i] - b[i]);
    out.identical += d == 0.0f;
    out.below_small += d < kSmallDifference;
    out.below_medium += d < kMediumDifference;
  }
  Flush(lanes.abs, sums.abs);
  Flush(lanes.sq, sums.sq);
  Flush(lanes.aa, sums.aa);
  Flush(lanes.bb, sums.bb);
  Flush(lanes.ab, sums.ab);
  return out;
}

QuickKernel QuickKernelFor(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return QuickChunkAvx512;
  if (isa >= Isa::kAvx2) return QuickChunkAvx2;
#endif
  (void)isa;
  return QuickChunkScalar;
}

ChunkSums CompareChunkScalar(const float* a, const float* b, int count, float kappa) {
  Lanes lanes;
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) lanes.Add(a + i, b + i, kappa);
  const int rest = count - i;
  if (rest > 0) {
    float x[kLanes] = {}, y[kLanes] = {};
    std::copy(a + i, a + count, x);
    std::copy(b + i, b + count, y);
    lanes.Add(x, y, kappa);
  }
  const int padding = rest > 0 ? kLanes - rest : 0;
  ChunkSums out;
  out.abs = Lanes::Total(lanes.abs);
  out.sq = Lanes::Total(lanes.sq);
  out.aa = Lanes::Total(lanes.aa);
  out.bb = Lanes::Total(lanes.bb);
  out.ab = Lanes::Total(lanes.ab);
  out.max_d = *std::max_element(lanes.max_d, lanes.max_d + kLanes);
  out.max_a = *std::max_element(lanes.max_a, lanes.max_a + kLanes);
  out.excess = *std::max_element(lanes.excess, lanes.excess + kLanes);
  out.identical = lanes.identical - padding;
  out.below_small = lanes.below_small - padding;
  out.below_medium = lanes.below_medium - padding;
  return out;
}

ChunkKernel ChunkKernelFor(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return CompareChunkAvx512;
  if (isa >= Isa::kAvx2) return CompareChunkAvx2;
#endif
  (void)isa;
  return CompareChunkScalar;
}

}  // namespace apr
