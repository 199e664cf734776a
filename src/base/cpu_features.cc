// See cpu_features.h.
#include "base/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <optional>

#include "base/error.h"

namespace apr {
namespace {

#if defined(__x86_64__)
// __builtin_cpu_supports asks CPUID and XGETBV: it is false when the system does not save the
// registers (libgcc config/i386/cpuinfo.c). Clang 14 does not know "f16c", so that bit is read here:
// CPUID leaf 1, ECX bit 29 (Intel SDM volume 2A, table 3-10); it uses the registers that AVX uses.
bool HasF16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool HasAvx512Vnni() {
  return HasAvx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
}
#else
bool HasAvx2() { return false; }
bool HasAvx512() { return false; }
bool HasAvx512Vnni() { return false; }
#endif

std::optional<Isa> g_forced;

const IsaInfo& Find(std::string_view name) {
  for (const IsaInfo& info : AllIsas()) {
    if (name == info.name) return info;
  }
  std::string names;
  for (const IsaInfo& info : AllIsas()) names += fmt::format(" {}", info.name);
  throw Error(ErrorCode::kUsage, fmt::format("unknown instruction-set table '{}'; known:{}", name, names));
}

Isa Choose() {
  if (const char* name = std::getenv("APR_CPU"); name != nullptr && *name != '\0') {
    const IsaInfo& info = Find(name);
    if (!info.available) {
      throw Error(ErrorCode::kNotBuilt, fmt::format("this machine lacks {} (APR_CPU={})", info.requires_, name));
    }
    return info.isa;
  }
  Isa best = Isa::kScalar;
  for (const IsaInfo& info : AllIsas()) {
    if (info.available) best = info.isa;
  }
  return best;
}

}  // namespace

std::span<const IsaInfo> AllIsas() {
  static const std::array<IsaInfo, 4> kTable = {{
      {Isa::kScalar, "scalar", "nothing", true},
      {Isa::kAvx2, "avx2", "AVX2, FMA, F16C", HasAvx2()},
      {Isa::kAvx512, "avx512", "AVX-512 F, BW, DQ, VL", HasAvx512()},
      {Isa::kAvx512Vnni, "avx512vnni", "AVX-512 F, BW, DQ, VL, VNNI, VBMI", HasAvx512Vnni()},
  }};
  return kTable;
}

Isa ActiveIsa() {
  if (g_forced) return *g_forced;
  static const Isa kChosen = Choose();
  return kChosen;
}

void ForceIsa(std::string_view name) {
  const IsaInfo& info = Find(name);
  if (!info.available) {
    throw Error(ErrorCode::kNotBuilt, fmt::format("this machine lacks {} (--cpu {})", info.requires_, name));
  }
  g_forced = info.isa;
}

bool IsaIsForced() {
  const char* name = std::getenv("APR_CPU");
  return g_forced.has_value() || (name != nullptr && *name != '\0');
}

const char* IsaName(Isa isa) {
  for (const IsaInfo& info : AllIsas()) {
    if (info.isa == isa) return info.name;
  }
  return "?";
}

std::string CpuModelName() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos) {
      return line.substr(line.find(": ") + 2);
    }
  }
  return "unknown";
}

}  // namespace apr
