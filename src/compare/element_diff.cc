// See element_diff.h.
#include "compare/element_diff.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/json.h"
#include "quant/decode_simd.h"

namespace apr {
namespace {

template <typename Real>
void Worst(ElementDiff& diff, double distance, int64_t index, Real a, Real b) {
  if (diff.max_index >= 0 && !(distance > diff.max_abs)) return;
  diff.max_abs = distance;
  diff.max_index = index;
  diff.a_at_max = a;
  diff.b_at_max = b;
}

// At least one of the two is NaN or infinite.
template <typename Real>
void AddNonFinite(ElementDiff& diff, Real a, Real b, int64_t index) {
  diff.nan_a += std::isnan(a);
  diff.nan_b += std::isnan(b);
  diff.inf_a += std::isinf(a);
  diff.inf_b += std::isinf(b);
  if (a == b) {
    ++diff.identical;
    return;
  }
  ++diff.large;
  if (diff.first_nonfinite < 0) diff.first_nonfinite = index;
  Worst(diff, INFINITY, index, a, b);
}

template <typename Real>
void AddFinite(ElementDiff& diff, Real a, Real b, int64_t index) {
  const double x = a;
  const double y = b;
  const double d = std::abs(x - y);
  ++diff.finite;
  diff.sum_abs += d;
  diff.sum_sq += d * d;
  diff.sum_aa += x * x;
  diff.sum_bb += y * y;
  diff.sum_ab += x * y;
  if (d == 0) {
    ++diff.identical;
    return;
  }
  (d < 0.001 ? diff.small : d < 0.01 ? diff.medium : diff.large)++;
  Worst(diff, d, index, a, b);
}

template <typename Real>
void AddSingly(ElementDiff& diff, std::span<const Real> a, std::span<const Real> b, int64_t first) {
  for (size_t i = 0; i < a.size(); ++i) {
    const int64_t index = first + static_cast<int64_t>(i);
    if (std::isfinite(a[i]) && std::isfinite(b[i])) AddFinite(diff, a[i], b[i], index);
    else AddNonFinite(diff, a[i], b[i], index);
  }
}

// A chunk whose elements and differences are all finite; whether its worst element is the worst of all.
bool AddSums(ElementDiff& diff, const ChunkSums& sums, int64_t count) {
  diff.sum_abs += sums.abs;
  diff.sum_sq += sums.sq;
  diff.sum_aa += sums.aa;
  diff.sum_bb += sums.bb;
  diff.sum_ab += sums.ab;
  diff.finite += count;
  diff.identical += sums.identical;
  diff.small += sums.below_small - sums.identical;
  diff.medium += sums.below_medium - sums.below_small;
  diff.large += count - sums.below_medium;
  return sums.max_d != 0 && (diff.max_index < 0 || sums.max_d > diff.max_abs);
}

// The first element that is `max_d` off is the worst.
void SetWorst(ElementDiff& diff, float max_d, std::span<const float> a, std::span<const float> b, int64_t first) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::abs(a[i] - b[i]) != max_d) continue;
    Worst(diff, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])), first + static_cast<int64_t>(i), a[i], b[i]);
    return;
  }
}

// One chunk of any kind through the kernel that is exact to f64.
ChunkStatistics AddExactly(ElementDiff& diff, ChunkKernel kernel, std::span<const float> a, std::span<const float> b, int64_t first, float kappa) {
  const ChunkSums sums = CompareChunk(kernel, a.data(), b.data(), static_cast<int>(a.size()), kappa);
  if (!sums.finite()) {
    AddSingly(diff, a, b, first);
    return {INFINITY, INFINITY, INFINITY, INFINITY};
  }
  if (AddSums(diff, sums, static_cast<int64_t>(a.size()))) SetWorst(diff, sums.max_d, a, b, first);
  return {static_cast<float>(sums.sq), sums.max_d, sums.max_a, sums.excess};
}

std::span<const float> Widened(RunType type, const void* run, size_t count, float* buffer) {
  const DType dtype = type == RunType::kF16 ? DType::kF16 : type == RunType::kBF16 ? DType::kBF16 : DType::kF32;
  RowDecoderOf(dtype)(static_cast<const std::byte*>(run), static_cast<int64_t>(count), buffer);
  return {buffer, count};
}

}  // namespace

double ElementDiff::mean_abs() const { return finite == 0 ? 0 : sum_abs / static_cast<double>(finite); }
double ElementDiff::rmse() const { return finite == 0 ? 0 : std::sqrt(sum_sq / static_cast<double>(finite)); }
double ElementDiff::rms_a() const { return finite == 0 ? 0 : std::sqrt(sum_aa / static_cast<double>(finite)); }
double ElementDiff::nmse() const {
  if (has_nonfinite_difference()) return INFINITY;
  if (sum_sq == 0) return 0;
  return sum_aa == 0 ? INFINITY : sum_sq / sum_aa;
}
double ElementDiff::cosine() const {
  if (sum_aa == 0 && sum_bb == 0) return 1;
  if (sum_aa == 0 || sum_bb == 0) return 0;
  return sum_ab / (std::sqrt(sum_aa) * std::sqrt(sum_bb));
}
double ElementDiff::relative_error() const { return std::sqrt(nmse()); }

Json ElementDiff::ToJson() const {
  return {{"element_count", count},
          {"identical_count", identical},
          {"small_diff_count", small},
          {"medium_diff_count", medium},
          {"large_diff_count", large},
          {"nan_count_a", nan_a},
          {"nan_count_b", nan_b},
          {"inf_count_a", inf_a},
          {"inf_count_b", inf_b},
          {"max_diff", JsonNumber(max_abs)},
          {"max_diff_index", max_index < 0 ? Json(nullptr) : Json(max_index)},
          {"a_at_max", max_index < 0 ? Json(nullptr) : JsonNumber(a_at_max)},
          {"b_at_max", max_index < 0 ? Json(nullptr) : JsonNumber(b_at_max)},
          {"mean_diff", JsonNumber(mean_abs())},
          {"rmse", JsonNumber(rmse())},
          {"nmse", JsonNumber(nmse())},
          {"cosine_similarity", count == 0 ? Json(nullptr) : JsonNumber(cosine())}};
}

void Accumulate(ElementDiff& diff, std::span<const float> a, std::span<const float> b, int64_t first) {
  AccumulateChunks(diff, a, b, first, 0, nullptr);
}

void Accumulate(ElementDiff& diff, std::span<const double> a, std::span<const double> b, int64_t first) {
  APR_CHECK(a.size() == b.size());
  diff.count += static_cast<int64_t>(a.size());
  AddSingly(diff, a, b, first);
}

void AccumulateChunks(ElementDiff& diff, std::span<const float> a, std::span<const float> b, int64_t first, float kappa,
                      ChunkStatistics* statistics) {
  APR_CHECK(a.size() == b.size());
  const ChunkKernel kernel = ChunkKernelFor(ActiveIsa());
  diff.count += static_cast<int64_t>(a.size());
  for (size_t i = 0; i < a.size(); i += kChunk) {
    const size_t count = std::min<size_t>(kChunk, a.size() - i);
    const std::span<const float> x = a.subspan(i, count), y = b.subspan(i, count);
    const int64_t index = first + static_cast<int64_t>(i);
    const ChunkStatistics run = AddExactly(diff, kernel, x, y, index, kappa);
    if (statistics != nullptr) *statistics++ = run;
  }
}

QuickComparison::QuickComparison(ElementDiff& diff, RunType a, RunType b, float& located)
    : diff_(diff), located_(located), type_a_(a), type_b_(b), exact_(ChunkKernelFor(ActiveIsa())), quick_(QuickKernelFor(ActiveIsa(), a, b)) {}

void QuickComparison::AddExact(const void* a, const void* b, int64_t count, int64_t first, int run, QuickStatistics& out) {
  alignas(64) float left[kChunk], right[kChunk];
  const auto n = static_cast<size_t>(count);
  const ChunkStatistics s = AddExactly(diff_, exact_, Widened(type_a_, a, n, left), Widened(type_b_, b, n, right), first, 0);
  out.sq[run] = s.sq;
  out.max_d[run] = s.max_d;
  out.max_a[run] = s.max_a;
}

void QuickComparison::AddTile(const void* const* a, const void* const* b, const QuickTile& tile, int runs, int64_t first) {
  diff_.sum_abs += tile.abs;
  diff_.sum_sq += tile.products[kSq];
  diff_.sum_aa += tile.products[kAa];
  diff_.sum_bb += tile.products[kBb];
  diff_.sum_ab += tile.products[kAb];
  diff_.finite += int64_t{runs} * kChunk;
  diff_.identical += tile.identical;
  diff_.small += tile.below_small - tile.identical;
  diff_.medium += tile.below_medium - tile.below_small;
  diff_.large += runs * kChunk - tile.below_medium;
  const float top = *std::max_element(tile.max_d, tile.max_d + runs);
  if (top == 0 || top < located_ || (diff_.max_index >= 0 && !(top > diff_.max_abs))) return;
  for (int r = 0; r < runs; ++r) {
    if (tile.max_d[r] != top) continue;
    alignas(64) float left[kChunk], right[kChunk];
    SetWorst(diff_, top, Widened(type_a_, a[r], kChunk, left), Widened(type_b_, b[r], kChunk, right), first + r * kChunk);
    located_ = top;
    return;
  }
}

void QuickComparison::Add(const void* const* a, const void* const* b, int64_t count, int64_t first, QuickStatistics& out) {
  const auto runs = static_cast<int>(count / kChunk);
  const int64_t rest = count % kChunk;
  APR_CHECK(runs + (rest > 0) <= kQuickRuns);
  diff_.count += count;
  QuickTile tile;
  if (runs > 0) quick_(a, b, runs, tile);
  if (runs > 0 && tile.sound) {
    AddTile(a, b, tile, runs, first);
    std::copy_n(tile.sq, kQuickRuns, out.sq);
    std::copy_n(tile.max_d, kQuickRuns, out.max_d);
    std::copy_n(tile.max_a, kQuickRuns, out.max_a);
  } else {
    for (int r = 0; r < runs; ++r) AddExact(a[r], b[r], kChunk, first + r * kChunk, r, out);
  }
  if (rest > 0) AddExact(a[runs], b[runs], rest, first + runs * kChunk, runs, out);
}

void MergeDiff(ElementDiff& into, const ElementDiff& next) {
  into.count += next.count;
  into.identical += next.identical;
  into.small += next.small;
  into.medium += next.medium;
  into.large += next.large;
  into.nan_a += next.nan_a;
  into.nan_b += next.nan_b;
  into.inf_a += next.inf_a;
  into.inf_b += next.inf_b;
  if (into.first_nonfinite < 0) into.first_nonfinite = next.first_nonfinite;
  if (next.max_index >= 0) Worst(into, next.max_abs, next.max_index, next.a_at_max, next.b_at_max);
  into.finite += next.finite;
  into.sum_abs += next.sum_abs;
  into.sum_sq += next.sum_sq;
  into.sum_aa += next.sum_aa;
  into.sum_bb += next.sum_bb;
  into.sum_ab += next.sum_ab;
}

}  // namespace apr
