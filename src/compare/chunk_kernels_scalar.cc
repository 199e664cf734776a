// The definition of chunk_kernels.h, and the choice among its kernels.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "compare/chunk_kernels.h"
#include "quant/plain.h"

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

// Sixteen lanes of a run, joined as halves of sixteen, of eight (sizes) or quarters of sixteen (products), then down to one.
struct QuickLanes {
  static constexpr int kWide = 16;
  float abs[kWide] = {};
  double product[4][kWide] = {};

  void Add(const float* a, const float* b) {
    for (int j = 0; j < kWide; ++j) {
      const double x = a[j], y = b[j];
      abs[j] += std::abs(a[j] - b[j]);
      product[kAa][j] += x * x;
      product[kBb][j] += y * y;
      product[kAb][j] += x * y;
    }
  }

  float Abs() const {
    float half[8];
    for (int j = 0; j < 8; ++j) half[j] = abs[j] + abs[j + 8];
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]));
  }
  double Of(QuickProduct which) const {
    double four[4];
    for (int j = 0; j < 4; ++j) four[j] = (product[which][j] + product[which][j + 8]) + (product[which][j + 4] + product[which][j + 12]);
    return (four[0] + four[1]) + (four[2] + four[3]);
  }
};

double SumSquares(const float* a, const float* b) {
  constexpr int kWide = 8;
  double sum[kWide] = {};
  for (int i = 0; i < kChunk; ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum[i % kWide] = std::fma(d, d, sum[i % kWide]);
  }
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

template <RunType kType>
void LoadRun(const void* run, float* out) {
  const auto* bytes = static_cast<const std::byte*>(run);
  if constexpr (kType == RunType::kF32) std::memcpy(out, run, kChunk * sizeof(float));
  if constexpr (kType == RunType::kF16) DecodeF16(bytes, kChunk, out);
  if constexpr (kType == RunType::kBF16) DecodeBF16(bytes, kChunk, out);
}

template <RunType kA, RunType kB>
void CompareQuickly(const void* const* left, const void* const* right, int runs, QuickTile& out) {
  out = {.sound = true};
  float abs[kQuickRuns] = {};
  for (int r = 0; r < runs; ++r) {
    float a[kChunk], b[kChunk];
    LoadRun<kA>(left[r], a);
    LoadRun<kB>(right[r], b);
    for (int i = 0; i < kChunk; ++i) {
      const float d = std::abs(a[i] - b[i]);
      out.sound = out.sound && d < kQuickMost;
      out.max_d[r] = std::max(out.max_d[r], d);
      out.max_a[r] = std::max(out.max_a[r], std::abs(a[i]));
      out.identical += d == 0.0f;
      out.below_small += d < kSmallDifference;
      out.below_medium += d < kMediumDifference;
    }
    QuickLanes lanes;
    for (int i = 0; i < kChunk; i += QuickLanes::kWide) lanes.Add(a + i, b + i);
    abs[r] = lanes.Abs();
    double sums[4];
    for (const QuickProduct p : {kAa, kBb, kAb}) sums[p] = lanes.Of(p);
    sums[kSq] = SquaresFrom(sums[kAa], sums[kBb], sums[kAb]);
    if (Cancels(sums)) sums[kSq] = SumSquares(a, b);
    for (const QuickProduct p : {kSq, kAa, kBb, kAb}) out.products[p] += sums[p];
    out.sq[r] = static_cast<float>(sums[kSq]);
  }
  double side[4];
  for (int j = 0; j < 4; ++j) side[j] = static_cast<double>(abs[j]) + static_cast<double>(abs[j + 4]);
  out.abs = (side[0] + side[1]) + (side[2] + side[3]);
}

}  // namespace

using enum RunType;
const QuickKernels kQuickScalar = {{{CompareQuickly<kF32, kF32>, CompareQuickly<kF32, kF16>, CompareQuickly<kF32, kBF16>},
                                   {CompareQuickly<kF16, kF32>, nullptr, nullptr},
                                   {CompareQuickly<kBF16, kF32>, nullptr, nullptr}}};

void SumParts(Isa isa, const float* a, const float* b, int count, PartSums (&out)[kParts]) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx2 && count == kChunk) return SumPartsAvx2(a, b, out);
#endif
  (void)isa;
  constexpr int kWide = 8;
  for (int first = 0; first < count; first += kPart) {
    double x[kPart] = {}, d[kPart] = {};
    const int n = std::min(kPart, count - first);
    for (int i = 0; i < n; ++i) x[i] = a[first + i];
    for (int i = 0; i < n; ++i) d[i] = x[i] - b[first + i];
    double sq[kWide] = {}, max_d[kWide] = {}, max_a[kWide] = {};
    for (int i = 0; i < kPart; i += kWide) {
      for (int j = 0; j < kWide; ++j) {
        sq[j] += d[i + j] * d[i + j];
        max_d[j] = std::max(max_d[j], std::abs(d[i + j]));
        max_a[j] = std::max(max_a[j], std::abs(x[i + j]));
      }
    }
    PartSums& part = out[first / kPart];
    part = {0, *std::max_element(max_d, max_d + kWide), *std::max_element(max_a, max_a + kWide)};
    for (const double each : sq) part.sq += each;
  }
}

QuickKernel QuickKernelFor(Isa isa, RunType a, RunType b) {
  const QuickKernels* kernels = &kQuickScalar;
#if defined(__x86_64__)
  if (isa >= Isa::kAvx2) kernels = &kQuickAvx2;
#endif
  (void)isa;
  const QuickKernel kernel = kernels->of[static_cast<int>(a)][static_cast<int>(b)];
  APR_CHECK(kernel != nullptr);
  return kernel;
}

ChunkSums CompareChunkScalar(const float* a, const float* b, int padded, float kappa) {
  Lanes lanes;
  for (int i = 0; i < padded; i += kLanes) lanes.Add(a + i, b + i, kappa);
  ChunkSums out;
  out.abs = Lanes::Total(lanes.abs);
  out.sq = Lanes::Total(lanes.sq);
  out.aa = Lanes::Total(lanes.aa);
  out.bb = Lanes::Total(lanes.bb);
  out.ab = Lanes::Total(lanes.ab);
  out.max_d = *std::max_element(lanes.max_d, lanes.max_d + kLanes);
  out.max_a = *std::max_element(lanes.max_a, lanes.max_a + kLanes);
  out.excess = *std::max_element(lanes.excess, lanes.excess + kLanes);
  out.identical = lanes.identical;
  out.below_small = lanes.below_small;
  out.below_medium = lanes.below_medium;
  return out;
}

ChunkSums CompareChunk(ChunkKernel kernel, const float* a, const float* b, int count, float kappa) {
  const int padding = (kLanes - count % kLanes) % kLanes;
  if (padding == 0) return kernel(a, b, count, kappa);
  alignas(64) float x[kChunk] = {}, y[kChunk] = {};
  std::copy(a, a + count, x);
  std::copy(b, b + count, y);
  ChunkSums out = kernel(x, y, count + padding, kappa);
  out.identical -= padding;
  out.below_small -= padding;
  out.below_medium -= padding;
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
