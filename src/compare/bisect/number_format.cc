// See number_format.h.
#include "compare/bisect/number_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/float16.h"
#include "tensor/dtype.h"

namespace apr::bisect {
namespace {

struct TypeRow {
  const char* name;
  const char* alias;
  int bits;         // significant ones
  double largest;
  int lowest;       // exponent of the smallest normal number
};
constexpr std::array kTypes = {
    TypeRow{"f64", "float64", 53, std::numeric_limits<double>::max(), -1022},
    TypeRow{"f32", "float32", 24, 3.4028234663852886e38, -126},
    TypeRow{"tf32", "tfloat32", 11, 3.4028234663852886e38, -126},
    TypeRow{"f16", "float16", 11, 65504, -14},
    TypeRow{"bf16", "bfloat16", 8, 3.3895313892515355e38, -126},
    TypeRow{"f8", "float8_e4m3fn", 4, 448, -6},
    TypeRow{"f8_e5m2", "float8_e5m2", 3, 57344, -14},
};

const TypeRow* FindRow(std::string_view name) {
  for (const TypeRow& row : kTypes) {
    if (name == row.name || name == row.alias) return &row;
  }
  return nullptr;
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

}  // namespace

std::optional<FloatType> FloatTypeFromName(std::string_view given) {
  const TypeRow* row = FindRow(Lower(given));
  if (row == nullptr) return std::nullopt;
  return FloatType{row->name, std::ldexp(1.0, -row->bits), row->largest, std::ldexp(1.0, row->lowest - row->bits), row->bits};
}

double RoundTo(const FloatType& type, double value) {
  if (type.bits == 53 || !std::isfinite(value) || value == 0) return value;
  if (type.bits == 24) return static_cast<float>(value);
  // To nearest even: bits below the last one are carried off; below the smallest normal number the step is fixed.
  const double step = 2 * type.smallest;
  double rounded = 0;
  if (std::abs(value) < std::ldexp(step, type.bits - 1)) {
    rounded = std::nearbyint(value / step) * step;
  } else {
    const int drop = 53 - type.bits;
    uint64_t word = std::bit_cast<uint64_t>(value);
    word += (uint64_t{1} << (drop - 1)) - 1 + (word >> drop & 1);
    rounded = std::bit_cast<double>(word >> drop << drop);
  }
  if (std::abs(rounded) <= type.largest) return rounded;
  return type.name == "f8" ? std::numeric_limits<double>::quiet_NaN() : std::copysign(INFINITY, value);
}

RunFormats FormatsOf(const StageManifest& manifest) {
  const FloatType f32 = *FloatTypeFromName("f32");
  RunFormats out{.activations = f32, .accumulate = f32, .weights = manifest.precision.weights};
  std::string activations = Lower(manifest.precision.activations);
  if (activations.empty() && !manifest.executor.empty()) {
    activations = Lower(manifest.executor.substr(0, manifest.executor.find(' ')));
    if (out.weights.empty() && FloatTypeFromName(activations)) out.weights = FloatTypeFromName(activations)->name;
  }
  if (activations == "int8" || activations == "q8_0" || activations == "q8_1" || activations == "q8_k") {
    out.int8_activations = out.declared = true;
    if (activations == "q8_k") out.int8_block = 256;
  } else if (const auto type = FloatTypeFromName(activations)) {
    if (type->name != "f64") out.activations = *type;
    else out.accumulate = *type;  // stage files hold f32: what was recorded is rounded, what went on was not
    out.declared = true;
  }
  const auto type = FloatTypeFromName(manifest.precision.accumulate);
  if (type && type->name != "f64") out.accumulate = *type;
  return out;
}

}  // namespace apr::bisect
