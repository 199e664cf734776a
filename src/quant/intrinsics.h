// The x86 intrinsics, for files with target regions.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the undefined pass-through operand of its own AVX-512 intrinsics for a use of an
// uninitialised variable (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
