// The scanning loops with AVX2. See scan_kernels.inc.
#include "quant/scan_kernels.h"

#if defined(__x86_64__)
#include <algorithm>

#include "quant/scan_specs.h"

#include "quant/target_avx2.h"
namespace apr::scan_avx2 {
namespace {
#include "quant/scan_kernels.inc"
}  // namespace
}  // namespace apr::scan_avx2
#include "quant/target_end.h"

namespace apr {
RunScanner Avx2ScannerOf(DType dtype) { return scan_avx2::ScannerOf(dtype); }
}  // namespace apr
#endif
