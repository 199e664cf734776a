// See quant.h: the table from element type to row functions, and whole tensors.
#include "quant/quant.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "quant/apr_native.h"
#include "quant/decode_simd.h"
#include "quant/iq.h"
#include "quant/mx.h"
#include "quant/plain.h"
#include "quant/q_k.h"
#include "quant/q_legacy.h"
#include "quant/search.h"
#include "quant/search_params.h"
#include "quant/ternary.h"

namespace apr {

void FailSize(const TensorView& view) {
  throw Error(ErrorCode::kInvalidFormat,
              fmt::format("{} bytes do not hold {} elements {} as {}", view.bytes.size(),
                          view.shape.num_elements(), view.shape.ToString(), NameOf(view.dtype)));
}

namespace {

struct Codec {
  DType dtype;
  RowDecoder decode = nullptr;
  RowEncoder encode = nullptr;
};

// The encoder of the instruction set in force.
template <RowEncoder SearchEncoders::*kEncoder>
void Searching(const float* x, int64_t cols, const float* importance, std::byte* out) {
  (SearchEncodersFor(ActiveIsa()).*kEncoder)(x, cols, importance, out);
}

// Rounds by the type's rule, as ggml does, but searches where an importance says what matters.
template <RowEncoder kRule, RowEncoder SearchEncoders::*kEncoder>
void RuleOrSearch(const float* x, int64_t cols, const float* importance, std::byte* out) {
  importance == nullptr ? kRule(x, cols, nullptr, out) : Searching<kEncoder>(x, cols, importance, out);
}

constexpr Codec kCodecs[] = {
    {DType::kF64, DecodeF64, EncodeF64},
    {DType::kF32, DecodeF32, EncodeF32},
    {DType::kF16, DecodeF16, Searching<&SearchEncoders::f16>},
    {DType::kBF16, DecodeBF16, EncodeBF16},
    {DType::kF8E4M3, DecodeF8E4M3},
    {DType::kF8E5M2, DecodeF8E5M2},
    {DType::kI64, DecodeI64},
    {DType::kI32, DecodeI32},
    {DType::kI16, DecodeI16},
    {DType::kI8, DecodeI8},
    {DType::kU64, DecodeU64},
    {DType::kU32, DecodeU32},
    {DType::kU16, DecodeU16},
    {DType::kU8, DecodeU8},
    {DType::kBool, DecodeBool},
    {DType::kQ4_0, DecodeQ4_0, RuleOrSearch<EncodeQ4_0, &SearchEncoders::q4_0>},
    {DType::kQ4_1, DecodeQ4_1, RuleOrSearch<EncodeQ4_1, &SearchEncoders::q4_1>},
    {DType::kQ5_0, DecodeQ5_0, RuleOrSearch<EncodeQ5_0, &SearchEncoders::q5_0>},
    {DType::kQ5_1, DecodeQ5_1, RuleOrSearch<EncodeQ5_1, &SearchEncoders::q5_1>},
    {DType::kQ8_0, DecodeQ8_0, Searching<&SearchEncoders::q8_0>},
    {DType::kQ8_1, DecodeQ8_1, EncodeQ8_1},
    {DType::kQ2_K, DecodeQ2_K, Searching<&SearchEncoders::q2_k>},
    {DType::kQ3_K, DecodeQ3_K, Searching<&SearchEncoders::q3_k>},
    {DType::kQ4_K, DecodeQ4_K, Searching<&SearchEncoders::q4_k>},
    {DType::kQ5_K, DecodeQ5_K, Searching<&SearchEncoders::q5_k>},
    {DType::kQ6_K, DecodeQ6_K, Searching<&SearchEncoders::q6_k>},
    {DType::kQ8_K, DecodeQ8_K},
    {DType::kIQ1_S, DecodeIQ1_S},
    {DType::kIQ1_M, DecodeIQ1_M},
    {DType::kIQ2_XXS, DecodeIQ2_XXS},
    {DType::kIQ2_XS, DecodeIQ2_XS},
    {DType::kIQ2_S, DecodeIQ2_S},
    {DType::kIQ3_XXS, DecodeIQ3_XXS},
    {DType::kIQ3_S, DecodeIQ3_S},
    {DType::kIQ4_NL, DecodeIQ4_NL, Searching<&SearchEncoders::iq4_nl>},
    {DType::kIQ4_XS, DecodeIQ4_XS, Searching<&SearchEncoders::iq4_xs>},
    {DType::kTQ1_0, DecodeTQ1_0, EncodeTQ1_0},
    {DType::kTQ2_0, DecodeTQ2_0, EncodeTQ2_0},
    {DType::kMXFP4, DecodeMXFP4, EncodeMXFP4},
    {DType::kNVFP4, DecodeNVFP4},
};

const Codec& CodecOf(DType dtype) {
  static const auto kByDType = [] {
    std::array<Codec, 64> codecs{};
    for (const Codec& codec : kCodecs) codecs[static_cast<size_t>(codec.dtype)] = codec;
    return codecs;
  }();
  return kByDType[static_cast<size_t>(dtype)];
}

// Rows as stored: `stored_cols` >= cols, the rest is padding to a whole block (K types in .apr).
struct RowLayout {
  int64_t rows;
  int64_t stored_cols;
  uint64_t row_bytes;
};

RowLayout LayoutOf(const TensorView& view) {
  const DTypeInfo& info = InfoOf(view.dtype);
  const int64_t block = info.block_elems;
  const int64_t blocks = (view.cols() + block - 1) / block;
  const RowLayout layout{view.rows(), blocks * block,
                         static_cast<uint64_t>(blocks) * info.block_bytes};
  const auto expected = CheckedMul(static_cast<uint64_t>(layout.rows), layout.row_bytes);
  if (!expected || *expected != view.bytes.size()) FailSize(view);
  return layout;
}

void DecodeRows(const TensorView& view, std::span<float> out) {
  const RowDecoder decode = RowDecoderOf(view.dtype);
  const RowLayout layout = LayoutOf(view);
  const int64_t cols = view.cols();
  if (layout.stored_cols == cols) {
    decode(view.bytes.data(), layout.rows * cols, out.data());  // whole rows touch: one long row
    return;
  }
  std::vector<float> padded(static_cast<size_t>(layout.stored_cols));
  for (int64_t r = 0; r < layout.rows; ++r) {
    decode(view.bytes.data() + static_cast<uint64_t>(r) * layout.row_bytes, layout.stored_cols,
           padded.data());
    std::copy(padded.begin(), padded.begin() + cols, out.begin() + r * cols);
  }
}

void DecodeAprNative(const TensorView& view, std::span<float> out) {
  if (StorageBytes(view.dtype, view.shape) != view.bytes.size()) FailSize(view);
  view.dtype == DType::kAprQ8 ? DecodeAprQ8(view.bytes, out) : DecodeAprQ4(view.bytes, out);
}

// A quantised block cannot hold an infinity or a NaN, and one would spoil its neighbours.
void RequireFinite(DType dtype, const float* x, int64_t rows, int64_t cols) {
  const int64_t count = rows * cols;
  constexpr int64_t kChunk = 4096;  // without a way out inside, so that the compiler vectorises it
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t last = std::min(first + kChunk, count);
    uint32_t odd = 0;
    for (int64_t i = first; i < last; ++i) odd |= std::bit_cast<uint32_t>(x[i] - x[i]);  // +0 of what is finite
    if (odd == 0) continue;
    const float* bad = std::find_if_not(x + first, x + last, [](float v) { return std::isfinite(v); });
    throw Error(ErrorCode::kValidationFailed,
                fmt::format("element [{}, {}] is {}: it cannot be quantised to {}", (bad - x) / cols,
                            (bad - x) % cols, *bad, NameOf(dtype)));
  }
}

template <typename T>
void Widen(Bytes bytes, std::span<double> out) {
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<double>(LoadLe<T>(bytes.data() + i * sizeof(T)));
}

}  // namespace

bool CanDecode(DType dtype) { return IsAprNative(dtype) || CodecOf(dtype).decode != nullptr; }
bool CanEncode(DType dtype) { return IsAprNative(dtype) || CodecOf(dtype).encode != nullptr; }

RowDecoder RowDecoderOf(DType dtype) {
#if defined(__x86_64__)
  const Isa isa = ActiveIsa();
  RowDecoder fast = nullptr;
  if (isa >= Isa::kAvx512) fast = Avx512DecoderOf(dtype);
  else if (isa >= Isa::kAvx2) fast = Avx2DecoderOf(dtype);
  if (fast != nullptr) return fast;
#endif
  return CodecOf(dtype).decode;
}

void DecodeRow(DType dtype, const std::byte* row, int64_t cols, float* out) {
  const RowDecoder decode = RowDecoderOf(dtype);
  APR_CHECK(decode != nullptr && cols % InfoOf(dtype).block_elems == 0);
  decode(row, cols, out);
}

void DecodeTensor(const TensorView& view, std::span<float> out) {
  APR_CHECK(static_cast<int64_t>(out.size()) == view.shape.num_elements());
  if (!CanDecode(view.dtype)) {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("no decoder for {}", NameOf(view.dtype)));
  }
  if (out.empty()) {
    if (!view.bytes.empty()) FailSize(view);
    return;
  }
  IsAprNative(view.dtype) ? DecodeAprNative(view, out) : DecodeRows(view, out);
}

void DecodeTensorF64(const TensorView& view, std::span<double> out) {
  APR_CHECK(static_cast<int64_t>(out.size()) == view.shape.num_elements());
  const DType dtype = view.dtype;
  if (dtype == DType::kF64 || dtype == DType::kI64 || dtype == DType::kU64 ||
      dtype == DType::kI32 || dtype == DType::kU32) {
    LayoutOf(view);
    if (dtype == DType::kF64) Widen<double>(view.bytes, out);
    if (dtype == DType::kI64) Widen<int64_t>(view.bytes, out);
    if (dtype == DType::kU64) Widen<uint64_t>(view.bytes, out);
    if (dtype == DType::kI32) Widen<int32_t>(view.bytes, out);
    if (dtype == DType::kU32) Widen<uint32_t>(view.bytes, out);
    return;
  }
  std::vector<float> narrow(out.size());
  DecodeTensor(view, narrow);
  std::copy(narrow.begin(), narrow.end(), out.begin());
}

void EncodeRows(DType dtype, const float* x, int64_t rows, int64_t cols, const float* importance,
                std::byte* out) {
  const DTypeInfo& info = InfoOf(dtype);
  if (!CanEncode(dtype))
    throw Error(ErrorCode::kNotBuilt, fmt::format("no encoder for {}", info.name));
  if (IsQuantized(dtype)) RequireFinite(dtype, x, rows, cols);
  if (IsAprNative(dtype)) {
    const std::span<const float> values(x, static_cast<size_t>(rows * cols));
    const std::span<std::byte> bytes(out, *StorageBytes(dtype, Shape{rows, cols}));
    dtype == DType::kAprQ8 ? EncodeAprQ8(values, bytes) : EncodeAprQ4(values, bytes);
    return;
  }
  APR_CHECK(cols % info.block_elems == 0);
  std::vector<float> weights;
  if (importance != nullptr && cols > 0) SmoothImportance(importance, cols, &weights);
  const int64_t row_bytes = cols / info.block_elems * info.block_bytes;
  for (int64_t r = 0; r < rows; ++r) {
    CodecOf(dtype).encode(x + r * cols, cols, weights.empty() ? nullptr : weights.data(),
                           out + r * row_bytes);
  }
}

}  // namespace apr
