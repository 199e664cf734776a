// The scanning loops with AVX512. See scan_kernels.inc.
#include "quant/scan_kernels.h"

#if defined(__x86_64__)
#include <algorithm>

#include "quant/scan_specs.h"

#include "quant/target_avx512.h"
namespace apr::scan_avx512 {
namespace {
#include "quant/scan_kernels.inc"
}  // namespace
}  // namespace apr::scan_avx512
#include "quant/target_end.h"

namespace apr {
RunScanner Avx512ScannerOf(DType dtype) { return scan_avx512::ScannerOf(dtype); }
}  // namespace apr
#endif
