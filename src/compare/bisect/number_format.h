// The number formats that a run declares, and what they allow: the half unit in the last place of each
// type, its largest value, and rounding to it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "format/stage_file.h"

namespace apr::bisect {

// A floating type. `unit`: relative error of one rounding at most (2^-p for p significant bits).
struct FloatType {
  std::string name;
  double unit = 0;
  double largest = 0;  // largest finite value
  double smallest = 0; // half of the smallest positive value: absolute error of one rounding near 0
  int bits = 53;       // significant ones
};

// "f64", "f32", "tf32", "bf16", "f16", "f8" (E4M3), "f8_e5m2"; also torch's long names. nullopt: none of these.
std::optional<FloatType> FloatTypeFromName(std::string_view name);
// `value` rounded to the nearest of the type; beyond its largest value infinite (f8 E4M3: NaN).
double RoundTo(const FloatType& type, double value);

// Formats of a run as the floor uses them.
struct RunFormats {
  FloatType activations, accumulate;
  bool int8_activations = false;      // inputs of products with quantised weights are rounded to int8 blocks
  int64_t int8_block = 32;            // elements that share one scale there
  std::string weights;                // as declared: "f32", "bf16", "Q4_K"; empty: as A stores them
  double weight_error = 0;            // relative error that loading A's weights as `weights` causes at random
  std::optional<FloatType> weight_rounding;  // A's weights are rounded to this type when loaded
  bool declared = false;              // activations were said; else taken from the values themselves
};

// From what a stage manifest says; "executor": "float32 cpu" of older ones. Formats that are not said stay
// f32 with declared = false. `int8_block` and weight errors are left to the caller.
RunFormats FormatsOf(const StageManifest& manifest);

}  // namespace apr::bisect
