// The loops of scan.h, once per instruction set (scan_kernels.inc).
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "tensor/dtype.h"

namespace apr {

// What a run of elements holds.
struct RunCounts {
  uint64_t zeros = 0, nan = 0, inf = 0, bad_scales = 0;
  int64_t first_bad = -1;  // within the run
};

// `count` elements from `bytes` on; for block types as many as the blocks hold, or fewer in the last one.
using RunScanner = void (*)(const std::byte* bytes, int64_t count, RunCounts& out);

// nullptr for types that have none.
RunScanner ScalarScannerOf(DType dtype);
#if defined(__x86_64__)
RunScanner Avx2ScannerOf(DType dtype);
RunScanner Avx512ScannerOf(DType dtype);
#endif

}  // namespace apr
