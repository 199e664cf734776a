// One table of linear kernels per instruction set. The unit of work is a panel: `rows` consecutive rows
// of the weight matrix, one per vector lane, times a tile of up to kTileTokens tokens.
//
// Every output element is one sum in one order, the same for each table but for fused or separate
// multiply and add in the f32 products of the scalar one:
//   exact: blocks of 32 along K; within a block one chain of products, then total += block
//   fast:  units of 32 (16 for Q6_K) along K in storage order; the integer dot product of a unit is exact,
//          then total = fma(float(dot), weight_scale * activation_scale, total) and, for types with a
//          minimum, total = fma(minimum, activation_scale * sum of activation codes, total)
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_features.h"
#include "tensor/dtype.h"

namespace apr {

inline constexpr int kTileTokens = 8;
inline constexpr int kMaxPanelRows = 16;
inline constexpr int kExactBlock = 32;

// How integer codes u (unsigned 8 bits) of a unit give weights.
enum class CodeKind {
  kOffset,    // units of 32: d * (u - offset)
  kMinimum,   // units of 32: d * u + m
  kSixteens,  // units of 16: d * (u - offset)
};

// `tokens` activation rows rounded to int8, interleaved for broadcasting. K is padded to whole units.
struct QuantTile {
  int8_t* codes;         // [K / 4, tokens, 4]
  float* scale;          // [K / 32, tokens]: largest magnitude / 127; NaN if the block is not finite
  int32_t* correction;   // kOffset: [K / 32, tokens], -offset * sum of codes; kSixteens: [K / 16, tokens]
  float* weighted_sum;   // kMinimum: [K / 32, tokens], scale * sum of codes
};

struct QuantizeArgs {
  const float* x;        // [tokens, cols], rows `stride` apart
  int64_t stride;
  int64_t cols;
  int64_t padded_cols;   // zeros are appended up to here; a multiple of 32
  int tokens;            // 1 .. kTileTokens
  CodeKind kind;
  int offset;
};

struct FastKernel {
  CodeKind kind;
  int offset;
  int64_t unit_bytes;    // of the unpacked panel, per 32 columns
  // Unpacks `count` storage blocks of each of the panel's rows, which lie `stride` bytes apart.
  void (*unpack)(const std::byte* rows, int64_t stride, int64_t count, std::byte* panel);
  // out[tokens, rows] of an unpacked panel.
  void (*dot)(const std::byte* panel, int64_t padded_cols, const QuantTile& tile, int tokens, float* out);
  // out[rows] for one token, straight from storage: the same bits as unpack + dot.
  void (*dot_one)(const std::byte* rows, int64_t stride, int64_t count, const QuantTile& tile, float* out);
};

// Decodes columns [0, cols) of the panel's rows to f32, [cols, rows] (column-major); bits as DecodeRow.
// `cols` is a multiple of the type's block, or for plain floats any number.
using UnpackF32 = void (*)(const std::byte* rows, int64_t stride, int64_t cols, float* panel);

struct LinearKernels {
  Isa isa;
  int rows;  // of a panel
  // Null: no kernel of this type; DecodeRow serves then.
  UnpackF32 (*unpack_f32)(DType);
  // out[tokens, rows] += panel [cols, rows] * tile [cols, tokens]. cols counts from a multiple of
  // kExactBlock within the whole row.
  void (*dot_f32)(const float* panel, int64_t cols, const float* tile, int tokens, float* out);
  // The same on activations row by row, x_stride apart, and panel columns `stride` floats apart.
  void (*dot_rows)(const float* panel, int64_t stride, int64_t cols, const float* x, int64_t x_stride, int tokens,
                   float* out);
  // Null: no int8 kernel of this type.
  const FastKernel* (*fast)(DType);
  void (*quantize)(const QuantizeArgs& args, const QuantTile& tile);
};

// The table of an instruction set that this build has; the caller made sure that it is available.
const LinearKernels& LinearKernelsFor(Isa isa);

const LinearKernels& LinearKernelsScalar();
const LinearKernels& LinearKernelsAvx2();
const LinearKernels& LinearKernelsAvx512();
const LinearKernels& LinearKernelsAvx512Vnni();

}  // namespace apr
