// The error that each type has on Gaussian values: docs/numerics.md, "Quantisation errors", says how it
// was measured; families_test.cc measures again what this project encodes.
#include "quant/quant.h"

namespace apr {

double TypicalRelativeError(DType dtype) {
  switch (dtype) {
    case DType::kF16: return 2.08e-4;
    case DType::kBF16: return 1.66e-3;
    case DType::kF8E4M3: return 0.0266;
    case DType::kF8E5M2: return 0.0529;
    case DType::kQ4_0: return 0.0860;
    case DType::kQ4_1: return 0.0783;
    case DType::kQ5_0: return 0.0427;
    case DType::kQ5_1: return 0.0379;
    case DType::kQ8_0:
    case DType::kQ8_1: return 0.00536;
    case DType::kQ2_K: return 0.2589;
    case DType::kQ3_K: return 0.1435;
    case DType::kQ4_K: return 0.0695;
    case DType::kQ5_K: return 0.0342;
    case DType::kQ6_K: return 0.0168;
    case DType::kQ8_K: return 0.0070;
    case DType::kIQ1_S: return 0.486;
    case DType::kIQ1_M: return 0.451;
    case DType::kIQ2_XXS: return 0.344;
    case DType::kIQ2_XS: return 0.300;
    case DType::kIQ2_S: return 0.249;
    case DType::kIQ3_XXS: return 0.182;
    case DType::kIQ3_S: return 0.137;
    case DType::kIQ4_NL: return 0.0735;
    case DType::kIQ4_XS: return 0.0739;
    case DType::kTQ1_0:
    case DType::kTQ2_0: return 0.808;
    case DType::kMXFP4: return 0.1118;
    case DType::kNVFP4: return 0.0953;
    case DType::kAprQ4: return 0.0971;
    case DType::kAprQ8: return 0.0109;
    default: return 0.0;  // F64, F32 and the integers hold what was written
  }
}

}  // namespace apr
