// Tests of the vector kernels: accuracy in units of the last place against f64, and independence of place.
#include "op/vector_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/cpu_features.h"
#include "op/activation/activation.h"
#include "op/elementwise/elementwise.h"
#include "op/norm/norm.h"
#include "op/test_node.h"

namespace apr {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// |got - want| in units of the last place of want as a float (at least of the smallest normal).
double Ulps(float got, double want) {
  if (std::isnan(want) || std::isinf(static_cast<float>(want))) {
    const auto rounded = static_cast<float>(want);
    return std::isnan(want) ? (std::isnan(got) ? 0 : 1e9) : (got == rounded ? 0 : 1e9);
  }
  const double size = std::max(std::abs(want), 1.2e-38);
  return std::abs(got - want) / std::ldexp(1.0, std::ilogb(size) - 23);
}

// Every 4001st float of either sign, and the special ones.
std::vector<float> ManyFloats() {
  std::vector<float> out = {0.0f, -0.0f, kInf, -kInf, std::numeric_limits<float>::quiet_NaN(), 1e-45f, -1e-45f};
  for (uint32_t bits = 0; bits < 0x7F800000u; bits += 4001) {
    out.push_back(std::bit_cast<float>(bits));
    out.push_back(-out.back());
  }
  return out;
}

double WorstUlps(const std::vector<float>& x, const std::vector<float>& y, double (*f)(double)) {
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, Ulps(y[i], f(x[i])));
  return worst;
}

std::vector<const VectorKernels*> Tables() {
  std::vector<const VectorKernels*> out;
  for (const IsaInfo& info : AllIsas()) {
    if (info.available) out.push_back(&VectorKernelsFor(info.isa));
  }
  return out;
}

// x / (1 + e^(-2 u)): the definition 0.5 x (1 + tanh u) cancels for negative x, in f64 too.
double GeluTanhWithoutCancellation(double x) {
  const double u = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
  return x / (1 + std::exp(-2 * u));
}

TEST(VectorKernels, ActivationsAreWithinOneUlp) {
  const std::vector<float> x = ManyFloats();
  std::vector<float> y(x.size());
  for (const VectorKernels* table : Tables()) {
    table->silu(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_LE(WorstUlps(x, y, ActivationFunction("silu")), 0.51) << IsaName(table->isa);
    if (table->isa == Isa::kScalar) continue;
    table->gelu_tanh(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_LE(WorstUlps(x, y, GeluTanhWithoutCancellation), 0.51) << IsaName(table->isa);
  }
}

TEST(VectorKernels, SoftcapIsWithinOneUlp) {
  const std::vector<float> x = ManyFloats();
  std::vector<float> y(x.size());
  for (const VectorKernels* table : Tables()) {
    table->softcap(x.data(), static_cast<int64_t>(x.size()), 30, y.data());
    EXPECT_LE(WorstUlps(x, y, [](double v) { return 30 * std::tanh(v / 30); }), 0.51) << IsaName(table->isa);
  }
}

// Softmax of two scores gives exp(x): [0, x] with x <= 0.
TEST(VectorKernels, ExpIsWithinOneUlp) {
  for (const VectorKernels* table : Tables()) {
    double worst = 0;
    for (float x = 0; x > -105; x -= 0.00731f) {
      alignas(64) float scores[kScoreAlign] = {0, x};
      const float sum = table->softmax({.scores = scores, .begin = 0, .end = 2, .sink = nullptr});
      EXPECT_EQ(scores[0], 1);
      const double want = std::exp(static_cast<double>(x));
      worst = std::max(worst, Ulps(scores[1], want));
      EXPECT_NEAR(sum, 1 + want, 1e-7);
    }
    EXPECT_LE(worst, 1.0) << IsaName(table->isa);
  }
}

TEST(VectorKernels, SoftmaxTouchesOnlyVisibleKeys) {
  for (const VectorKernels* table : Tables()) {
    for (const int64_t begin : {0, 1, 15, 16, 17}) {
      for (const int64_t count : {1, 2, 15, 16, 17, 40}) {
        std::vector<float> scores(80, std::numeric_limits<float>::quiet_NaN());
        double want_sum = 0;
        for (int64_t s = begin; s < begin + count; ++s) scores[static_cast<size_t>(s)] = 0.1f * static_cast<float>(s % 7);
        float largest = 0;
        for (int64_t s = begin; s < begin + count; ++s) largest = std::max(largest, 0.1f * static_cast<float>(s % 7));
        const float sink = 0.3f;
        largest = std::max(largest, sink);
        for (int64_t s = begin; s < begin + count; ++s) want_sum += std::exp(0.1f * static_cast<float>(s % 7) - largest);
        want_sum += std::exp(sink - largest);
        const float sum = table->softmax({.scores = scores.data(), .begin = begin, .end = begin + count, .sink = &sink});
        EXPECT_NEAR(sum, want_sum, 1e-5 * want_sum) << IsaName(table->isa) << " " << begin << "+" << count;
        for (int64_t s = begin; s < begin + count; ++s) EXPECT_FALSE(std::isnan(scores[static_cast<size_t>(s)]));
      }
    }
    float bad[kScoreAlign] = {1, std::numeric_limits<float>::quiet_NaN(), 2};
    EXPECT_TRUE(std::isnan(table->softmax({.scores = bad, .begin = 0, .end = 3, .sink = nullptr})));
  }
}

// An element's result is the same wherever it stands in a row of any length.
TEST(VectorKernels, PlaceDoesNotMatter) {
  const std::vector<float> x = RandomFloats(40, 5);
  for (const VectorKernels* table : Tables()) {
    std::vector<float> whole(40);
    table->gelu_tanh(x.data(), 40, whole.data());
    for (int64_t first = 0; first < 40; ++first) {
      for (const int64_t count : {1, 3, 9}) {
        if (first + count > 40) continue;
        float part[9];
        table->gelu_tanh(x.data() + first, count, part);
        for (int64_t i = 0; i < count; ++i) EXPECT_EQ(part[i], whole[static_cast<size_t>(first + i)]);
      }
    }
  }
}

struct NormCase {
  NormAttributes a;
  int64_t width;
  int weights;
};

TEST(VectorKernels, NormsMatchTheReference) {
  const NormCase cases[] = {{{.eps = 1e-6}, 576, 1},
                            {{.eps = 1e-6, .offset = 1}, 100, 1},
                            {{.layer_norm = true, .eps = 1e-5}, 33, 2},
                            {{.layer_norm = true, .eps = 1e-5}, 7, 0},
                            {{.eps = 1e-5, .groups = 4}, 4 * 17, 1},
                            {{.eps = 1e-5, .groups = 3, .weight_per_group = true}, 3 * 24, 1}};
  for (const NormCase& c : cases) {
    const int64_t n = c.a.weight_per_group ? c.width : c.width / c.a.groups;
    std::vector<WeightRef> weights;
    for (int i = 0; i < c.weights; ++i) weights.push_back(FloatWeight(RandomFloats(n, 50 + static_cast<uint64_t>(i)), Shape{n}));
    TestNode node(NormOp(), c.a, 9, {c.width}, weights);
    for (float& x : node.input(0)) x = 3 * x + 1;
    const std::vector<double> want = node.Reference();
    for (const std::string& isa : AvailableIsas()) {
      const std::vector<float> got = node.Cpu(isa, 2);
      for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(Ulps(got[i], want[i]), 1.6) << isa << " " << c.width;
      EXPECT_EQ(got, node.Cpu(isa, 1));
    }
  }
  ForceIsa(AvailableIsas().back());
}

TEST(VectorKernels, ElementwiseOpsMatchTheReference) {
  for (const int64_t tokens : {1, 9, 700}) {
    TestNode add(AddOp(), AddAttributes{}, tokens, {33, 33}, {});
    TestNode scaled(AddOp(), AddAttributes{.scale = 0.25}, tokens, {33, 33}, {});
    TestNode mul(MulOp(), MulAttributes{}, tokens, {33, 33}, {});
    TestNode softcap(SoftcapOp(), SoftcapAttributes{.cap = 2}, tokens, {33}, {});
    TestNode silu(ActivationOp(), ActivationAttributes{.kind = "silu"}, tokens, {33}, {});
    TestNode relu2(ActivationOp(), ActivationAttributes{.kind = "relu2"}, tokens, {33}, {});
    for (TestNode* node : {&add, &scaled, &mul, &softcap, &silu, &relu2}) {
      const std::vector<double> want = node->Reference();
      for (const std::string& isa : AvailableIsas()) {
        const std::vector<float> got = node->Cpu(isa, 2);
        for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6 * std::max(1.0, std::abs(want[i]))) << isa;
        EXPECT_EQ(got, node->Cpu(isa, 1));
      }
    }
  }
  ForceIsa(AvailableIsas().back());
}

// The measure above sees an error of one unit.
TEST(VectorKernels, UlpsAreCounted) {
  EXPECT_EQ(Ulps(1.0f, 1.0), 0);
  EXPECT_NEAR(Ulps(std::nextafter(1.0f, 2.0f), 1.0), 1, 1e-9);
  EXPECT_GT(Ulps(kInf, 3e38), 1e6);
  EXPECT_GT(Ulps(1.0f, std::nan("")), 1e6);
}

}  // namespace
}  // namespace apr
