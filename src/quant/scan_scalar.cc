// The scanning loops for any machine. See scan_kernels.inc.
#include "quant/scan_kernels.h"

#include <algorithm>

#include "quant/scan_specs.h"

namespace apr::scan_scalar {
namespace {
#include "quant/scan_kernels.inc"
}  // namespace
}  // namespace apr::scan_scalar

namespace apr {
RunScanner ScalarScannerOf(DType dtype) { return scan_scalar::ScannerOf(dtype); }
}  // namespace apr
