// The scan against full decoding, for every type and every instruction set of this machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/cpu_features.h"
#include "base/error.h"
#include "quant/quant.h"
#include "quant/scan.h"
#include "quant/scan_specs.h"

namespace apr {
namespace {

struct Expected {
  uint64_t zeros = 0, bad = 0, zero_rows = 0;
};

// What decoding says; for block types zeros count by whole blocks.
Expected ByDecoding(const TensorView& view) {
  std::vector<double> values(static_cast<size_t>(view.shape.num_elements()));
  DecodeTensorF64(view, values);
  Expected out;
  const auto block = static_cast<size_t>(InfoOf(view.dtype).block_elems);
  for (size_t at = 0; at < values.size(); at += block) {
    const auto part = std::span(values).subspan(at, block);
    if (std::ranges::all_of(part, [](double x) { return x == 0; })) out.zeros += block;
    if (std::ranges::any_of(part, [](double x) { return !std::isfinite(x); })) out.bad += block;
  }
  const auto cols = static_cast<size_t>(view.cols());
  for (size_t at = 0; at < values.size(); at += cols) {
    if (std::ranges::all_of(std::span(values).subspan(at, cols), [](double x) { return x == 0; })) ++out.zero_rows;
  }
  return out;
}

ScanCounts ScanAll(const TensorView& view, uint64_t piece_bytes) {
  ScanCounts out;
  for (const ScanPiece& piece : ScanPieces(view, piece_bytes)) out.Merge(Scan(piece));
  return out;
}

// Random bytes with some rows and blocks of zeros; F8_E4M3's and the like then hold NaN by themselves.
std::vector<std::byte> RandomBytes(size_t size, uint64_t row_bytes, std::mt19937& random) {
  std::vector<std::byte> bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  std::fill_n(bytes.begin(), row_bytes, std::byte{0});
  std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(3 * row_bytes), row_bytes + row_bytes / 2, std::byte{0});
  return bytes;
}

TEST(Scan, AgreesWithDecoding) {
  std::mt19937 random(7);
  const std::string before = IsaName(ActiveIsa());
  for (const IsaInfo& isa : AllIsas()) {
    if (!isa.available) continue;
    ForceIsa(isa.name);
    for (const DTypeInfo& info : AllDTypes()) {
      if (!CanScan(info.dtype) || !CanDecode(info.dtype) || info.dtype == DType::kAprQ8 || !info.is_float) continue;
      SCOPED_TRACE(std::string(isa.name) + " " + info.name);
      const Shape shape{8, info.block_elems == 1 ? 777 : 1536 / info.block_elems * info.block_elems};
      const uint64_t size = *StorageBytes(info.dtype, shape);
      const std::vector<std::byte> bytes = RandomBytes(size, size / 8, random);
      const TensorView view{info.dtype, shape, bytes};
      const Expected expected = ByDecoding(view);
      for (const uint64_t piece : {uint64_t{1}, size / 3, size}) {
        const ScanCounts counts = ScanAll(view, piece);
        EXPECT_EQ(counts.elements, static_cast<uint64_t>(shape.num_elements()));
        EXPECT_EQ(counts.zeros, expected.zeros);
        EXPECT_EQ(counts.zero_rows, expected.zero_rows);
        EXPECT_EQ(counts.first_zero_row, expected.zero_rows > 0 ? 0 : -1);
        // What decoding does not show: NVFP4 takes a NaN scale for 0, as ggml does, and Q8_1 keeps a sum for products.
        if (info.dtype == DType::kNVFP4 || info.dtype == DType::kQ8_1) {
          EXPECT_GE(counts.nan + counts.inf, expected.bad);
        } else {
          EXPECT_EQ(counts.nan + counts.inf, expected.bad);
        }
        EXPECT_EQ(counts.first_bad >= 0, counts.nan + counts.inf > 0);
      }
    }
  }
  ForceIsa(before);
}

TEST(Scan, OneBadScaleAnywhereIsFound) {
  std::mt19937 random(11);
  for (const DTypeInfo& info : AllDTypes()) {
    if (info.block_elems == 1 || !CanScan(info.dtype)) continue;
    const Shape shape{4, 2 * info.block_elems};
    std::vector<std::byte> bytes(*StorageBytes(info.dtype, shape), std::byte{0x11});
    EXPECT_EQ(ScanAll({info.dtype, shape, bytes}, 1 << 20).bad_scales, 0u) << info.name;
    const size_t block = random() % 8;
    std::byte* at = bytes.data() + block * info.block_bytes;
    // All ones in every byte that may be part of a scale: NaN in each of the formats.
    std::fill_n(at, info.block_bytes, std::byte{0xFF});
    const ScanCounts counts = ScanAll({info.dtype, shape, bytes}, 1 << 20);
    EXPECT_GE(counts.bad_scales, 1u) << info.name;
    EXPECT_EQ(counts.first_bad, static_cast<int64_t>(block * info.block_elems)) << info.name;
    EXPECT_EQ(counts.nan, info.block_elems) << info.name;
  }
}

TEST(Scan, CodesThatStandForZerosUnderLivingScales) {
  for (const DType dtype : {DType::kQ4_0, DType::kQ5_0, DType::kQ8_0, DType::kQ6_K, DType::kQ3_K, DType::kTQ1_0, DType::kTQ2_0, DType::kMXFP4}) {
    const int64_t cols = 512;
    std::vector<float> x(cols, 0.f);
    std::fill_n(x.begin(), 256, 0.75f);
    std::vector<std::byte> bytes(*StorageBytes(dtype, {1, cols}));
    EncodeRows(dtype, x.data(), 1, cols, nullptr, bytes.data());
    // The scale of a living block over the codes of a block of zeros.
    const DTypeInfo& info = InfoOf(dtype);
    const size_t half = bytes.size() / 2;
    std::vector<std::byte> mixed = bytes;
    for (size_t at = half; at < bytes.size(); at += info.block_bytes) {
      const bool last = dtype == DType::kQ6_K || dtype == DType::kQ3_K || dtype == DType::kTQ1_0 || dtype == DType::kTQ2_0;
      const size_t scale_bytes = dtype == DType::kMXFP4 ? 1 : 2;
      const size_t offset = last ? info.block_bytes - 2 : 0;
      std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), scale_bytes, mixed.begin() + static_cast<ptrdiff_t>(at + offset));
    }
    const TensorView view{dtype, Shape{1, cols}, mixed};
    EXPECT_EQ(ScanAll(view, 1 << 20).zeros, ByDecoding(view).zeros) << NameOf(dtype);
    EXPECT_EQ(ByDecoding(view).zeros, 256u) << NameOf(dtype) << ": the case is what it should be";
  }
}

TEST(Scan, AprNativeTypesRunOverTheWholeTensor) {
  for (const DType dtype : {DType::kAprQ4, DType::kAprQ8}) {
    const Shape shape{5, 37};  // blocks do not end with the rows
    std::vector<float> x(static_cast<size_t>(shape.num_elements()));
    for (size_t i = 0; i < x.size(); ++i) x[i] = i < 64 ? 0.f : std::sin(static_cast<float>(i));
    std::vector<std::byte> bytes(*StorageBytes(dtype, shape));
    EncodeRows(dtype, x.data(), 5, 37, nullptr, bytes.data());
    const ScanCounts counts = ScanAll({dtype, shape, bytes}, 40);
    EXPECT_EQ(counts.elements, x.size());
    EXPECT_GE(counts.zeros, 64u);
    EXPECT_EQ(counts.nan + counts.inf, 0u);
    const Statistics whole = DecodedStatistics({dtype, shape, bytes});
    EXPECT_EQ(SampledStatistics({dtype, shape, bytes}).l2_norm, whole.l2_norm);
  }
}

TEST(Scan, BytesThatDoNotFitAreAnError) {
  std::vector<std::byte> bytes(100);
  EXPECT_THROW(ScanPieces({DType::kF32, Shape{5, 6}, bytes}, 10), Error);
  EXPECT_THROW(ScanPieces({DType::kQ4_0, Shape{5, 32}, bytes}, 10), Error);
  EXPECT_THROW(ScanPieces({DType::kI32, Shape{25}, bytes}, 10), Error);
}

}  // namespace
}  // namespace apr
