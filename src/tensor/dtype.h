// Element types of tensors in files and in memory: one table row each.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace apr {

// Block types are named as ggml names them. Order is free; nothing stores these numbers.
enum class DType : uint8_t {
  kF64, kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kF8E8M0,
  kF8E4M3Fnuz, kF8E5M2Fnuz, kF6E2M3, kF6E3M2, kF4, kC64,  // listed and copied, not computed with
  kI64, kI32, kI16, kI8, kU64, kU32, kU16, kU8, kBool,
  kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ8_1,
  kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kQ8_K,
  kIQ2_XXS, kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kIQ1_S, kIQ1_M, kIQ4_NL, kIQ4_XS,
  kTQ1_0, kTQ2_0, kMXFP4, kNVFP4, kQ1_0,
  kAprQ4, kAprQ8,  // APR-native (reader and writer of .apr only)
};

struct DTypeInfo {
  DType dtype;
  const char* name;       // "F32", "Q4_K": how the program prints and parses it
  uint32_t block_elems;   // elements per block along the last dimension; 1 for plain types. The
                          // 4- and 6-bit floats of safetensors are packed over the whole tensor.
  uint32_t block_bytes;   // bytes per block
  int ggml_id;            // ggml type id in GGUF, -1 if none
  const char* safetensors_name;  // nullptr if none
  bool is_float;          // decodes to real numbers (plain floats and every quantised type)
};

std::span<const DTypeInfo> AllDTypes();
const DTypeInfo& InfoOf(DType dtype);
inline const char* NameOf(DType dtype) { return InfoOf(dtype).name; }
inline bool IsQuantized(DType dtype) { return InfoOf(dtype).block_elems > 1 || dtype == DType::kAprQ8; }

// Case-insensitive; accepts "q4_k" and "Q4_K".
std::optional<DType> DTypeFromName(std::string_view name);
std::optional<DType> DTypeFromGgml(uint32_t id);
std::optional<DType> DTypeFromSafetensors(std::string_view name);

}  // namespace apr
