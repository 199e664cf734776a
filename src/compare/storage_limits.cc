// See storage_limits.h.
#include "compare/storage_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/quant.h"

namespace apr {
namespace {

constexpr double kPlainRatio = 2.2;  // truncation doubles the error of rounding

// Mean error over that of this project's encoder, or over that of the nearest codes.
double RatioLimit(const WeightValues& side) {
  if (side.grid) return 1.7;
  if (PlainErrorOf(side.dtype)) return kPlainRatio;
  const DType dtype = side.dtype;
  switch (dtype) {
    case DType::kQ8_0:
    case DType::kQ8_1:
    case DType::kQ8_K:
    case DType::kAprQ8:
    case DType::kAprQ4: return 1.4;
    default: return CanEncode(dtype) ? 1.7 : 2.0;
  }
}

}  // namespace

std::optional<PlainError> PlainOf(const WeightValues& side) { return side.grid ? std::nullopt : PlainErrorOf(side.dtype); }
double TypicalOf(const WeightValues& side) { return TypicalError(side.dtype, side.grid); }

double FreedomOf(const WeightValues& side) { return side.grid ? side.grid->freedom : 1; }

// Where one side's type errs far more than the other's, its limit is the limit.
double RatioLimit(const WeightValues& a, const WeightValues& b) {
  constexpr double kFar = 4;
  const auto typical = [](const WeightValues& side) {
    const std::optional<PlainError> plain = PlainOf(side);
    return plain ? 0.3 * plain->relative : TypicalOf(side);  // root mean square of rounding
  };
  if (typical(a) > kFar * typical(b)) return RatioLimit(a);
  if (typical(b) > kFar * typical(a)) return RatioLimit(b);
  return std::max(RatioLimit(a), RatioLimit(b));
}

RunLimits RunLimitsOf(const WeightValues& a, const WeightValues& b) {
  RunLimits out;
  out.plain = PlainOf(a) && PlainOf(b);
  for (const WeightValues* side : {&a, &b}) {
    const std::optional<PlainError> p = PlainOf(*side);
    const double relative = p ? p->relative : 0;
    out.kappa += relative + side->rounding;
    if (p) out.absolute += p->absolute;
    // A stored w + 1 was rounded where it lay.
    out.absolute += std::abs(side->shift) * (relative + kF32Rounding);
    const double typical = p ? p->relative : TypicalOf(*side);
    out.peak += 1.2 * typical;
    out.rms += 0.6 * typical;
  }
  return out;
}

double ClipOf(DType dtype, bool of_a) { return dtype != DType::kMXFP4 ? 0 : of_a ? 0.34 : 0.251; }

std::string StoredText(const WeightRef& weight) { return weight.grid ? weight.grid->name : std::string(NameOf(weight.view.dtype)); }

std::string TypesText(const WeightRef& a, const WeightRef& b) {
  const std::string of_a = StoredText(a), of_b = StoredText(b);
  return of_a == of_b ? of_a : fmt::format("{} against {}", of_a, of_b);
}

std::optional<PlainError> PlainErrorOf(DType dtype) {
  switch (dtype) {
    case DType::kF16: return PlainError{0x1p-10, 0x1p-24, 65504};
    case DType::kBF16: return PlainError{0x1p-7, 0, 3.38953139e38};
    case DType::kF8E4M3: return PlainError{0x1p-3, 0x1p-9, 448};
    case DType::kF8E5M2: return PlainError{0x1p-2, 0x1p-16, 57344};
    default: break;
  }
  if (IsQuantized(dtype)) return std::nullopt;
  return PlainError{0, 0, std::numeric_limits<float>::max()};
}

}  // namespace apr
