// Decoding and encoding of every element type: the front door of src/quant. Each family (q_legacy,
// q_k, iq, ternary, mx, apr_native, plain floats) has a pair of files that hold the block struct,
// its size assertion, the formula and the scalar code, which is the definition: every vector kernel
// must give the same decode.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace apr {

bool CanDecode(DType dtype);
bool CanEncode(DType dtype);

// One row of `cols` elements (a multiple of the block) to f32; not for APR q4 and q8, which have no
// rows. Exact where the format is exact in f32, otherwise rounded once. F64 rounds to f32; integers
// convert.
// `row` holds cols / block_elems blocks; `out` holds cols floats; they must not overlap.
void DecodeRow(DType dtype, const std::byte* row, int64_t cols, float* out);

// A whole tensor, in row order; knows the types whose bytes are not whole rows (APR q4, q8) and
// rows padded to whole blocks (K-quants in .apr: bytes.size() / rows larger than cols need).
// out.size() == view.shape.num_elements(). Throws Error(kInvalidFormat) when the bytes do not fit.
void DecodeTensor(const TensorView& view, std::span<float> out);
// The same in f64: exact for F64 and for integers below 2^53, else the f32 decode widened.
void DecodeTensorF64(const TensorView& view, std::span<double> out);

// Encodes `rows` rows of `cols` elements; cols must be a multiple of the block (APR q4 and q8: any,
// the rows are one flat tensor). `importance` (nullable): [cols] non-negative weights of the
// squared error (an importance matrix row); types whose encoder is a rounding rule ignore it.
// `out`: StorageBytes(dtype, {rows, cols}) bytes. Throws Error(kValidationFailed) when a quantised
// type is given a non-finite value (it names the element) or values whose scale does not fit f16.
void EncodeRows(DType dtype, const float* x, int64_t rows, int64_t cols, const float* importance,
                std::byte* out);

// Root mean square of (decoded - x) over that of x, on Gaussian values, by this project's encoder where
// it has one (else by ggml's); 0 for types that hold what was written. compare/ uses it to say "as large
// as this type must have". Measured: docs/numerics.md.
double TypicalRelativeError(DType dtype);

}  // namespace apr
