// Vector decoders: the same bits as the scalar ones (see decode_simd.inc), chosen by instruction set.
#pragma once

#include "quant/block.h"
#include "tensor/dtype.h"

namespace apr {

// What DecodeRow (quant.h) calls under the instruction set in force; null if there is nothing to call.
RowDecoder RowDecoderOf(DType dtype);

// nullptr for types that have none.
#if defined(__x86_64__)
RowDecoder Avx2DecoderOf(DType dtype);
RowDecoder Avx512DecoderOf(DType dtype);
#endif

}  // namespace apr
