// Compiler target regions: functions between APR_TARGET_BEGIN_* and APR_TARGET_END may use the named
// instruction sets; the rest of the program is compiled for the base machine. Open a region after all
// includes, and keep standard templates out of it: an instance compiled inside would run anywhere.
#pragma once

#if defined(__clang__)
#define APR_PRAGMA(text) _Pragma(#text)
#define APR_TARGET_BEGIN(features) \
  APR_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define APR_TARGET_END _Pragma("clang attribute pop")
#define APR_UNROLL _Pragma("unroll")
#else
#define APR_PRAGMA(text) _Pragma(#text)
#define APR_TARGET_BEGIN(features) _Pragma("GCC push_options") APR_PRAGMA(GCC target(features))
#define APR_TARGET_END _Pragma("GCC pop_options")
#define APR_UNROLL _Pragma("GCC unroll 32")
#endif

#define APR_TARGET_AVX2 "avx2,fma,f16c"
#define APR_TARGET_AVX512 "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#define APR_TARGET_AVX512VNNI \
  "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi"

#define APR_INLINE inline __attribute__((always_inline))
