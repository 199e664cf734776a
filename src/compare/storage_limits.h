// What storing as a type may do to values: the error that each type has at most or as a rule, and how far two sides may
// lie apart before a run of elements is looked at closely.
#pragma once

#include <optional>
#include <string>

#include "compare/weight_values.h"
#include "graph/weight.h"
#include "tensor/dtype.h"

namespace apr {

// How a weight is stored: "Q4_K", "GPTQ int4"; how two are: "Q4_K", "F32 against GPTQ int4".
std::string StoredText(const WeightRef& weight);
std::string TypesText(const WeightRef& a, const WeightRef& b);

// Largest relative rounding error of a plain float type (twice the unit roundoff: truncation is a
// conversion too); 0 for f32 and wider; nullopt for quantised types.
struct PlainError {
  double relative = 0;
  double absolute = 0;   // spacing of its subnormal numbers
  double largest = 0;    // finite value
};
std::optional<PlainError> PlainErrorOf(DType dtype);

// Decoding in another order of operations, or adding and taking away an offset, moves f32 values by so
// much of the largest of a run.
inline constexpr double kF32Rounding = 0x1p-22;

// Of a side as it is stored: nullopt where its codes are a packed grid's.
std::optional<PlainError> PlainOf(const WeightValues& side);
double TypicalOf(const WeightValues& side);  // relative error of storing Gaussian values so
double FreedomOf(const WeightValues& side);  // of the side's grid; 1 where the type says all

// Mean error of the pair over that of this project's encoder, or over that of the nearest codes, at the most.
double RatioLimit(const WeightValues& a, const WeightValues& b);

// What passes without a closer look at a run.
struct RunLimits {
  bool plain = false;          // both sides: nothing to verify by encoding
  double kappa = 0;            // plain: relative error
  double absolute = 0;         // always allowed
  double peak = 0, rms = 0;    // of the largest of a run: beyond them a run is looked at closely
};

RunLimits RunLimitsOf(const WeightValues& a, const WeightValues& b);

// The rule of the OCP specification takes MXFP4's exponent from the largest element alone: 8 times the scale becomes 6. Of the
// largest of A that is a quarter, or a third where A is what was stored.
double ClipOf(DType dtype, bool of_a);

}  // namespace apr
