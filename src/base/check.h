// CHECK: a condition that only a bug of ours can break. Never reachable from input: input errors
// throw Error (error.h). On in every build type.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace apr {
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);
}  // namespace apr

#define APR_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::apr::CheckFailed(#condition, __FILE__, __LINE__))
