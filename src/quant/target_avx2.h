// Opens a region compiled for AVX2 (Isa::kAvx2); target_end.h closes it. Standard headers must be
// included before.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
