// Tests of linear: every table of kernels against the f64 definition and against each other.
#include "op/linear/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "base/cpu_features.h"
#include "op/linear/linear_cpu.h"
#include "op/linear/linear_kernels.h"
#include "op/test_node.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr DType kFastTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
constexpr DType kVectorTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                                  DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
constexpr DType kOtherTypes[] = {DType::kF64, DType::kQ2_K, DType::kQ3_K};

TestNode LinearNode(WeightRef weight, int64_t tokens) {
  const int64_t cols = weight.cols();
  return TestNode(LinearOp(), LinearAttributes{}, tokens, {cols}, {std::move(weight)});
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Column counts around the edges of vectors, blocks and the exact path's chunk of 256.
std::vector<int64_t> ColumnsFor(DType dtype) {
  const int64_t block = InfoOf(dtype).block_elems;
  if (block == 1) return {1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 255, 256, 257, 600};
  if (block == 32) return {32, 64, 96, 256, 288, 576};
  return {256, 512, 768};
}

class OnEveryIsa : public testing::Test {
 protected:
  void TearDown() override { ForceIsa(AvailableIsas().back()); }
};
using Linear = OnEveryIsa;

TEST_F(Linear, ExactMatchesTheReference) {
  std::vector<DType> types(std::begin(kVectorTypes), std::end(kVectorTypes));
  types.insert(types.end(), std::begin(kOtherTypes), std::end(kOtherTypes));
  for (const DType dtype : types) {
    for (const int64_t cols : ColumnsFor(dtype)) {
      for (const int64_t rows : {1, 5, 8, 15, 16, 17, 33}) {
        TestNode node = LinearNode(RandomWeight(dtype, rows, cols, 3), 5);
        const std::vector<double> want = node.Reference();
        for (const std::string& isa : AvailableIsas()) {
          EXPECT_LT(RelativeError(node.Cpu(isa, 2), want), 2e-6)
              << NameOf(dtype) << " " << rows << "x" << cols << " " << isa;
        }
      }
    }
  }
}

// The same activations rounded to int8 by a plain loop, times decoded weights, in f64.
std::vector<double> RoundedReference(TestNode& node, const WeightRef& weight, int64_t tokens) {
  std::vector<float>& x = node.input(0);
  const std::vector<float> kept = x;
  const int64_t cols = weight.cols();
  std::vector<double> rounded(x.size());
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < cols; k += 32) {
      const size_t at = static_cast<size_t>(t * cols + k);
      float largest = 0;
      for (size_t i = at; i < at + 32; ++i) largest = std::max(largest, std::abs(x[i]));
      for (size_t i = at; i < at + 32; ++i) {
        rounded[i] = std::nearbyint(x[i] * (127 / largest)) * static_cast<double>(largest / 127);
      }
    }
  }
  std::vector<double> out;
  std::vector<float> w(static_cast<size_t>(cols));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t n = 0; n < weight.rows(); ++n) {
      ReadWeightRow(weight, n, std::span<float>(w));
      double sum = 0;
      for (int64_t k = 0; k < cols; ++k) {
        sum += w[static_cast<size_t>(k)] * rounded[static_cast<size_t>(t * cols + k)];
      }
      out.push_back(sum);
    }
  }
  x = kept;
  return out;
}

TEST_F(Linear, FastIsTheProductOfRoundedActivations) {
  for (const DType dtype : kFastTypes) {
    for (const int64_t cols : ColumnsFor(dtype)) {
      for (const int64_t rows : {1, 8, 15, 16, 17, 33}) {
        const WeightRef weight = RandomWeight(dtype, rows, cols, 4);
        TestNode node = LinearNode(weight, 3);
        const std::vector<double> want = RoundedReference(node, weight, 3);
        const std::vector<double> exact = node.Reference();
        for (const std::string& isa : AvailableIsas()) {
          const std::vector<float> got = node.Cpu(isa, 2, Precision::kFast);
          EXPECT_LT(RelativeError(got, want), 3e-6) << NameOf(dtype) << " " << rows << "x" << cols << " " << isa;
          // The comparison can tell rounded activations from unrounded ones.
          EXPECT_GT(RelativeError(got, exact), 1e-4) << NameOf(dtype);
        }
      }
    }
  }
}

TEST_F(Linear, FastGivesTheSameBitsOnEveryTable) {
  for (const DType dtype : kFastTypes) {
    const WeightRef weight = RandomWeight(dtype, 37, 768, 5);
    for (const int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 19}) {
      TestNode node = LinearNode(weight, tokens);
      const std::vector<float> want = node.Cpu("scalar", 1, Precision::kFast);
      for (const std::string& isa : AvailableIsas()) {
        EXPECT_TRUE(SameBits(node.Cpu(isa, 2, Precision::kFast), want)) << NameOf(dtype) << " " << isa << " " << tokens;
      }
    }
  }
}

// Codes and activations at the ends of their ranges, where byte products saturate if they can.
TEST_F(Linear, ExtremeCodesDoNotSaturate) {
  for (const DType dtype : kFastTypes) {
    for (const uint8_t fill : {0x00, 0x7F, 0x80, 0xFF}) {
      WeightRef weight = RandomWeight(dtype, 16, 256, 6);
      auto tensor = std::make_shared<Tensor>(dtype, Shape{16, 256});
      std::ranges::copy(weight.view.bytes, tensor->mutable_bytes().begin());
      const uint32_t block = InfoOf(dtype).block_bytes;
      for (size_t i = 0; i < tensor->mutable_bytes().size(); ++i) {
        const size_t in_block = i % block;
        const bool scale = dtype == DType::kQ6_K ? in_block >= 208 : in_block < 4;
        if (!scale) tensor->mutable_bytes()[i] = static_cast<std::byte>(fill);
      }
      weight.owned = tensor;
      weight.view = tensor->view();
      TestNode node = LinearNode(weight, 9);
      for (size_t i = 0; i < node.input(0).size(); ++i) node.input(0)[i] = i % 512 < 256 ? 127.0f : -127.0f;
      const std::vector<double> want = node.Reference();
      const std::vector<float> scalar = node.Cpu("scalar", 1, Precision::kFast);
      for (const std::string& isa : AvailableIsas()) {
        const std::vector<float> got = node.Cpu(isa, 1, Precision::kFast);
        EXPECT_TRUE(SameBits(got, scalar)) << NameOf(dtype) << " " << int{fill} << " " << isa;
        EXPECT_LT(RelativeError(got, want), 2e-5) << NameOf(dtype) << " " << int{fill} << " " << isa;
      }
    }
  }
}

TEST_F(Linear, BitsDoNotDependOnTokensOrThreads) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ4_1, DType::kQ5_0, DType::kQ8_0, DType::kQ4_K,
                            DType::kQ6_K, DType::kQ3_K}) {
    const WeightRef weight = RandomWeight(dtype, 45, 512, 7);
    constexpr int64_t kTokens = 523;  // past the chunk of 512
    TestNode whole = LinearNode(weight, kTokens);
    for (const Precision precision : {Precision::kExact, Precision::kFast}) {
      for (const std::string& isa : AvailableIsas()) {
        const std::vector<float> want = whole.Cpu(isa, 1, precision);
        EXPECT_TRUE(SameBits(whole.Cpu(isa, 2, precision), want));
        EXPECT_TRUE(SameBits(whole.Cpu(isa, 3, precision), want));
        for (const int64_t count : {1, 2, 3, 4, 5, 6, 7, 8, 9, 17}) {
          for (const int64_t first : {int64_t{0}, int64_t{5}, kTokens - count}) {
            TestNode part = LinearNode(weight, count);
            std::copy_n(whole.input(0).begin() + first * 512, count * 512, part.input(0).begin());
            const std::vector<float> got = part.Cpu(isa, 2, precision);
            const std::vector<float> slice(want.begin() + first * 45, want.begin() + (first + count) * 45);
            EXPECT_TRUE(SameBits(got, slice)) << NameOf(dtype) << " " << isa << " " << first << "+" << count;
          }
        }
      }
    }
  }
}

// The comparison above sees one changed bit.
TEST_F(Linear, SameBitsSeesOneBit) {
  const std::vector<float> a = RandomFloats(100, 8);
  std::vector<float> b = a;
  b[57] = std::nextafter(b[57], 10.0f);
  EXPECT_FALSE(SameBits(a, b));
  EXPECT_FALSE(SameBits({0.0f}, {-0.0f}));
}

TEST_F(Linear, RowsOfARowGroupDoNotDependOnTheirNeighbours) {
  const WeightRef big = RandomWeight(DType::kQ4_K, 40, 256, 9);
  TestNode all = LinearNode(big, 2);
  for (const std::string& isa : AvailableIsas()) {
    const std::vector<float> want = all.Cpu(isa, 1, Precision::kFast);
    for (const int64_t first : {0, 1, 7, 20, 39}) {
      WeightRef part = big;
      part.view = big.view.Rows(first, 1);
      TestNode node = LinearNode(part, 2);
      const std::vector<float> got = node.Cpu(isa, 1, Precision::kFast);
      EXPECT_EQ(got[0], want[static_cast<size_t>(first)]);
      EXPECT_EQ(got[1], want[static_cast<size_t>(40 + first)]);
    }
  }
}

TEST_F(Linear, RowOrderMovesOutputs) {
  for (const int64_t rows : {5, 16, 48, 50}) {
    const WeightRef plain = RandomWeight(DType::kQ8_0, rows, 64, 10);
    std::vector<int32_t> order(static_cast<size_t>(rows));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(11));
    WeightRef moved = plain;
    moved.row_order = std::make_shared<const std::vector<int32_t>>(order);
    for (const int64_t tokens : {1, 3}) {
      for (const Precision precision : {Precision::kExact, Precision::kFast}) {
        for (const std::string& isa : AvailableIsas()) {
          const std::vector<float> storage = LinearNode(plain, tokens).Cpu(isa, 2, precision);
          const std::vector<float> canonical = LinearNode(moved, tokens).Cpu(isa, 2, precision);
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t r = 0; r < rows; ++r) {
              ASSERT_EQ(canonical[static_cast<size_t>(t * rows + r)],
                        storage[static_cast<size_t>(t * rows + order[static_cast<size_t>(r)])]);
            }
          }
        }
      }
    }
  }
}

TEST_F(Linear, NotANumberReachesItsOutputsOnly) {
  for (const DType dtype : {DType::kF32, DType::kQ4_1, DType::kQ8_0, DType::kQ6_K}) {
    const WeightRef weight = RandomWeight(dtype, 20, 256, 12);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      for (const Precision precision : {Precision::kExact, Precision::kFast}) {
        for (const std::string& isa : AvailableIsas()) {
          for (const int64_t tokens : {1, 4}) {
            TestNode node = LinearNode(weight, tokens);
            node.input(0)[static_cast<size_t>((tokens - 1) * 256 + 100)] = bad;
            const std::vector<float> got = node.Cpu(isa, 1, precision);
            for (int64_t t = 0; t < tokens; ++t) {
              for (int64_t n = 0; n < 20; ++n) {
                EXPECT_EQ(std::isfinite(got[static_cast<size_t>(t * 20 + n)]), t != tokens - 1)
                    << NameOf(dtype) << " " << isa;
              }
            }
          }
        }
      }
    }
  }
}

TEST_F(Linear, TinyAndZeroActivations) {
  const WeightRef weight = RandomWeight(DType::kQ4_0, 16, 64, 13);
  TestNode node = LinearNode(weight, 1);
  for (const float size : {0.0f, 1e-42f, 1e-35f, 1e-20f}) {
    std::ranges::fill(node.input(0), size);
    for (const std::string& isa : AvailableIsas()) {
      for (const float y : node.Cpu(isa, 1, Precision::kFast)) {
        EXPECT_TRUE(std::isfinite(y));
        EXPECT_LE(std::abs(y), 200 * size);
        EXPECT_EQ(y == 0, size < 1e-30f);
      }
    }
  }
}

TEST_F(Linear, UnpackedFloatsAreDecodeRowBitForBit) {
  for (const DType dtype : kVectorTypes) {
    const WeightRef weight = RandomWeight(dtype, kMaxPanelRows, 512, 14);
    std::vector<float> row(512);
    for (const std::string& isa : AvailableIsas()) {
      ForceIsa(isa);
      const LinearKernels& kernels = LinearKernelsFor(ActiveIsa());
      if (isa == "scalar") {
        EXPECT_EQ(kernels.unpack_f32(dtype), nullptr);
        continue;
      }
      ASSERT_NE(kernels.unpack_f32(dtype), nullptr);
      std::vector<float> panel(static_cast<size_t>(512 * kernels.rows));
      kernels.unpack_f32(dtype)(weight.view.bytes.data(), static_cast<int64_t>(weight.view.row_bytes()), 512,
                                panel.data());
      for (int r = 0; r < kernels.rows; ++r) {
        DecodeRow(dtype, weight.view.Rows(r, 1).bytes.data(), 512, row.data());
        for (int k = 0; k < 512; ++k) {
          ASSERT_EQ(std::bit_cast<uint32_t>(panel[static_cast<size_t>(k * kernels.rows + r)]),
                    std::bit_cast<uint32_t>(row[static_cast<size_t>(k)]))
              << NameOf(dtype) << " " << isa << " row " << r << " column " << k;
        }
      }
    }
  }
}

TEST_F(Linear, NamesItsKernel) {
  ForceIsa("scalar");
  const auto name = [](DType dtype, Precision precision) {
    TestNode node = LinearNode(RandomWeight(dtype, 4, 256, 15), 1);
    return LinearKernelName(*node.Prepare(precision));
  };
  EXPECT_EQ(name(DType::kQ4_1, Precision::kFast), "Q4_1 x int8, scalar");
  EXPECT_EQ(name(DType::kQ4_1, Precision::kExact), "Q4_1 x f32, scalar, rows decoded one by one");
  EXPECT_EQ(name(DType::kF16, Precision::kFast), "F16 x f32, scalar, rows decoded one by one");
  EXPECT_EQ(name(DType::kQ3_K, Precision::kFast),
            "Q3_K x f32, scalar, rows decoded one by one (no int8 kernel of this type)");
}

}  // namespace
}  // namespace apr
