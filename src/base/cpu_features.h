// Which instruction sets this processor AND operating system offer, and which one is in force.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace apr {

// Ordered: a later one includes the earlier ones of the same machine family.
enum class Isa {
  kScalar,      // portable C++: the definition
  kAvx2,        // AVX2 + FMA + F16C
  kAvx512,      // AVX-512 F, BW, DQ, VL
  kAvx512Vnni,  // + VNNI, VBMI
};

struct IsaInfo {
  Isa isa;
  const char* name;      // as --cpu and APR_CPU take it
  const char* requires_;  // instruction sets, for people
  bool available;        // processor has them and the operating system saves their registers
};

// Every table this build holds, weakest first.
std::span<const IsaInfo> AllIsas();

// The strongest available one, unless ForceIsa() or the environment variable APR_CPU chose another.
// Throws kNotBuilt / kUsage when the forced one is unavailable / unknown.
Isa ActiveIsa();
void ForceIsa(std::string_view name);
const char* IsaName(Isa isa);
// True if ActiveIsa() is what ForceIsa() or APR_CPU named.
bool IsaIsForced();

// Processor name as the system tells it, e.g. "AMD EPYC".
std::string CpuModelName();

}  // namespace apr
