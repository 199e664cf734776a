// See dtype.h.
#include "tensor/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "base/check.h"

namespace apr {
namespace {

// ggml ids and block sizes: ggml/include/ggml.h (enum ggml_type), ggml/src/ggml-common.h.
// APR q8 is one f32 scale and then int8 codes for the whole tensor: its size is not a multiple of a
// block, so block_bytes counts the codes alone and quant/ knows the rest.
constexpr DTypeInfo kTable[] = {
    {DType::kF64, "F64", 1, 8, 28, "F64", true},
    {DType::kF32, "F32", 1, 4, 0, "F32", true},
    {DType::kF16, "F16", 1, 2, 1, "F16", true},
    {DType::kBF16, "BF16", 1, 2, 30, "BF16", true},
    {DType::kF8E4M3, "F8_E4M3", 1, 1, -1, "F8_E4M3", true},
    {DType::kF8E5M2, "F8_E5M2", 1, 1, -1, "F8_E5M2", true},
    {DType::kF8E8M0, "F8_E8M0", 1, 1, -1, "F8_E8M0", true},
    {DType::kF8E4M3Fnuz, "F8_E4M3FNUZ", 1, 1, -1, "F8_E4M3FNUZ", true},
    {DType::kF8E5M2Fnuz, "F8_E5M2FNUZ", 1, 1, -1, "F8_E5M2FNUZ", true},
    {DType::kF6E2M3, "F6_E2M3", 4, 3, -1, "F6_E2M3", true},
    {DType::kF6E3M2, "F6_E3M2", 4, 3, -1, "F6_E3M2", true},
    {DType::kF4, "F4", 2, 1, -1, "F4", true},
    {DType::kC64, "C64", 1, 8, -1, "C64", false},
    {DType::kI64, "I64", 1, 8, 27, "I64", false},
    {DType::kI32, "I32", 1, 4, 26, "I32", false},
    {DType::kI16, "I16", 1, 2, 25, "I16", false},
    {DType::kI8, "I8", 1, 1, 24, "I8", false},
    {DType::kU64, "U64", 1, 8, -1, "U64", false},
    {DType::kU32, "U32", 1, 4, -1, "U32", false},
    {DType::kU16, "U16", 1, 2, -1, "U16", false},
    {DType::kU8, "U8", 1, 1, -1, "U8", false},
    {DType::kBool, "BOOL", 1, 1, -1, "BOOL", false},
    {DType::kQ4_0, "Q4_0", 32, 18, 2, nullptr, true},
    {DType::kQ4_1, "Q4_1", 32, 20, 3, nullptr, true},
    {DType::kQ5_0, "Q5_0", 32, 22, 6, nullptr, true},
    {DType::kQ5_1, "Q5_1", 32, 24, 7, nullptr, true},
    {DType::kQ8_0, "Q8_0", 32, 34, 8, nullptr, true},
    {DType::kQ8_1, "Q8_1", 32, 36, 9, nullptr, true},
    {DType::kQ2_K, "Q2_K", 256, 84, 10, nullptr, true},
    {DType::kQ3_K, "Q3_K", 256, 110, 11, nullptr, true},
    {DType::kQ4_K, "Q4_K", 256, 144, 12, nullptr, true},
    {DType::kQ5_K, "Q5_K", 256, 176, 13, nullptr, true},
    {DType::kQ6_K, "Q6_K", 256, 210, 14, nullptr, true},
    {DType::kQ8_K, "Q8_K", 256, 292, 15, nullptr, true},
    {DType::kIQ2_XXS, "IQ2_XXS", 256, 66, 16, nullptr, true},
    {DType::kIQ2_XS, "IQ2_XS", 256, 74, 17, nullptr, true},
    {DType::kIQ3_XXS, "IQ3_XXS", 256, 98, 18, nullptr, true},
    {DType::kIQ1_S, "IQ1_S", 256, 50, 19, nullptr, true},
    {DType::kIQ4_NL, "IQ4_NL", 32, 18, 20, nullptr, true},
    {DType::kIQ3_S, "IQ3_S", 256, 110, 21, nullptr, true},
    {DType::kIQ2_S, "IQ2_S", 256, 82, 22, nullptr, true},
    {DType::kIQ4_XS, "IQ4_XS", 256, 136, 23, nullptr, true},
    {DType::kIQ1_M, "IQ1_M", 256, 56, 29, nullptr, true},
    {DType::kTQ1_0, "TQ1_0", 256, 54, 34, nullptr, true},
    {DType::kTQ2_0, "TQ2_0", 256, 66, 35, nullptr, true},
    {DType::kMXFP4, "MXFP4", 32, 17, 39, nullptr, true},
    {DType::kNVFP4, "NVFP4", 64, 36, 40, nullptr, true},
    {DType::kQ1_0, "Q1_0", 128, 18, 41, nullptr, true},
    {DType::kAprQ4, "APR_Q4", 32, 18, -1, nullptr, true},
    {DType::kAprQ8, "APR_Q8", 1, 1, -1, nullptr, true},
};

bool SameNoCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

}  // namespace

std::span<const DTypeInfo> AllDTypes() { return kTable; }

const DTypeInfo& InfoOf(DType dtype) {
  static const auto kByDType = [] {
    std::array<const DTypeInfo*, 64> rows{};
    for (const DTypeInfo& row : kTable) rows[static_cast<size_t>(row.dtype)] = &row;
    return rows;
  }();
  const DTypeInfo* row = kByDType[static_cast<size_t>(dtype)];
  APR_CHECK(row != nullptr);
  return *row;
}

std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DTypeInfo& row : kTable) {
    if (SameNoCase(name, row.name)) return row.dtype;
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromGgml(uint32_t id) {
  for (const DTypeInfo& row : kTable) {
    if (row.ggml_id >= 0 && static_cast<uint32_t>(row.ggml_id) == id) return row.dtype;
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromSafetensors(std::string_view name) {
  for (const DTypeInfo& row : kTable) {
    if (row.safetensors_name != nullptr && name == row.safetensors_name) return row.dtype;
  }
  return std::nullopt;
}

}  // namespace apr
