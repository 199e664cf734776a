// Where the scales of a block lie, per type, and how codes begin that stand for zeros. Offsets come from
// the block structs of each family.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/apr_native.h"
#include "quant/iq.h"
#include "quant/mx.h"
#include "quant/q_k.h"
#include "quant/q_legacy.h"
#include "quant/ternary.h"
#include "tensor/dtype.h"

namespace apr {

enum class ScaleKind { kF16, kF32, kE8M0, kE4M3, kIq1m };

struct BlockSpec {
  DType dtype;
  int bytes;
  int elements;
  ScaleKind kind;
  int scales;
  int offset[4];
  int codes = -1;             // offset of eight bytes of codes; -1: no code of the type stands for zero
  uint64_t zero_codes = 0;    // what they are in a block of zeros
};

// Whether every element of the block at `block` decodes to zero.
bool DecodesToZeros(const BlockSpec& spec, const std::byte* block);
bool DecodesToFinite(const BlockSpec& spec, const std::byte* block);

#define APR_AT(Type, field) static_cast<int>(offsetof(Block##Type, field))
#define APR_SPEC(Type, elements, ...) \
  inline constexpr BlockSpec kSpec##Type = {DType::k##Type, static_cast<int>(sizeof(Block##Type)), elements, __VA_ARGS__}

inline constexpr uint64_t kEach88 = 0x8888888888888888u;
inline constexpr uint64_t kEach55 = 0x5555555555555555u;
inline constexpr uint64_t kEach80 = 0x8080808080808080u;

APR_SPEC(Q4_0, 32, ScaleKind::kF16, 1, {APR_AT(Q4_0, d)}, APR_AT(Q4_0, qs), kEach88);
APR_SPEC(Q4_1, 32, ScaleKind::kF16, 2, {APR_AT(Q4_1, d), APR_AT(Q4_1, m)}, APR_AT(Q4_1, qs), 0);
APR_SPEC(Q5_0, 32, ScaleKind::kF16, 1, {APR_AT(Q5_0, d)}, APR_AT(Q5_0, qs), 0);
APR_SPEC(Q5_1, 32, ScaleKind::kF16, 2, {APR_AT(Q5_1, d), APR_AT(Q5_1, m)}, APR_AT(Q5_1, qs), 0);
APR_SPEC(Q8_0, 32, ScaleKind::kF16, 1, {APR_AT(Q8_0, d)}, APR_AT(Q8_0, qs), 0);
APR_SPEC(Q8_1, 32, ScaleKind::kF16, 2, {APR_AT(Q8_1, d), APR_AT(Q8_1, s)}, APR_AT(Q8_1, qs), 0);
APR_SPEC(Q2_K, 256, ScaleKind::kF16, 2, {APR_AT(Q2_K, d), APR_AT(Q2_K, dmin)}, APR_AT(Q2_K, qs), 0);
APR_SPEC(Q3_K, 256, ScaleKind::kF16, 1, {APR_AT(Q3_K, d)}, APR_AT(Q3_K, qs), 0);
APR_SPEC(Q4_K, 256, ScaleKind::kF16, 2, {APR_AT(Q4_K, d), APR_AT(Q4_K, dmin)}, APR_AT(Q4_K, qs), 0);
APR_SPEC(Q5_K, 256, ScaleKind::kF16, 2, {APR_AT(Q5_K, d), APR_AT(Q5_K, dmin)}, APR_AT(Q5_K, qs), 0);
APR_SPEC(Q6_K, 256, ScaleKind::kF16, 1, {APR_AT(Q6_K, d)}, APR_AT(Q6_K, ql), 0);
APR_SPEC(Q8_K, 256, ScaleKind::kF32, 1, {APR_AT(Q8_K, d)}, APR_AT(Q8_K, qs), 0);
APR_SPEC(IQ1_S, 256, ScaleKind::kF16, 1, {APR_AT(IQ1_S, d)});
APR_SPEC(IQ1_M, 256, ScaleKind::kIq1m, 1, {APR_AT(IQ1_M, scales)});
APR_SPEC(IQ2_XXS, 256, ScaleKind::kF16, 1, {APR_AT(IQ2_XXS, d)});
APR_SPEC(IQ2_XS, 256, ScaleKind::kF16, 1, {APR_AT(IQ2_XS, d)});
APR_SPEC(IQ2_S, 256, ScaleKind::kF16, 1, {APR_AT(IQ2_S, d)});
APR_SPEC(IQ3_XXS, 256, ScaleKind::kF16, 1, {APR_AT(IQ3_XXS, d)});
APR_SPEC(IQ3_S, 256, ScaleKind::kF16, 1, {APR_AT(IQ3_S, d)});
APR_SPEC(IQ4_NL, 32, ScaleKind::kF16, 1, {APR_AT(IQ4_NL, d)});
APR_SPEC(IQ4_XS, 256, ScaleKind::kF16, 1, {APR_AT(IQ4_XS, d)});
APR_SPEC(TQ1_0, 256, ScaleKind::kF16, 1, {APR_AT(TQ1_0, d)}, APR_AT(TQ1_0, qs), kEach80);
APR_SPEC(TQ2_0, 256, ScaleKind::kF16, 1, {APR_AT(TQ2_0, d)}, APR_AT(TQ2_0, qs), kEach55);
APR_SPEC(MXFP4, 32, ScaleKind::kE8M0, 1, {APR_AT(MXFP4, e)}, APR_AT(MXFP4, qs), 0);
APR_SPEC(NVFP4, 64, ScaleKind::kE4M3, 4, {0, 1, 2, 3}, APR_AT(NVFP4, qs), 0);
APR_SPEC(AprQ4, 32, ScaleKind::kF16, 1, {APR_AT(AprQ4, scale)}, APR_AT(AprQ4, qs), kEach88);

#undef APR_SPEC
#undef APR_AT

}  // namespace apr
