// See product.h.
#include "compare/bisect/product.h"

#include <cmath>

#include "op/context.h"

namespace apr::bisect {
namespace {

constexpr int kLanes = 8;   // partial sums of one product
constexpr int kTokens = 4;  // products that read one weight row together

// Of `count` <= kTokens rows of x, each the same sums in the same order.
template <int count>
void Dots(const double* x, int64_t stride, const double* w, int64_t n, double* out) {
  double lane[count][kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) {
    for (int t = 0; t < count; ++t) {
      for (int j = 0; j < kLanes; ++j) lane[t][j] += x[t * stride + k + j] * w[k + j];
    }
  }
  for (int t = 0; t < count; ++t) {
    for (int j = 0; k + j < n; ++j) lane[t][j] += x[t * stride + k + j] * w[k + j];
    const double* l = lane[t];
    out[t] = ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]));
  }
}

template <typename RowChange>
void Multiply(const ProductInput& input, ThreadPool& pool, std::span<double> y, const RowChange& change) {
  const int64_t n_in = input.weight.cols(), n_out = input.weight.rows();
  const int64_t tokens = static_cast<int64_t>(input.x.size()) / n_in;
  pool.ParallelFor(n_out, 16, [&](int64_t begin, int64_t end, int) {
    std::vector<double> w(static_cast<size_t>(n_in));
    for (int64_t n = begin; n < end; ++n) {
      ReadWeightRow(input.weight, n, std::span<double>(w));
      if (input.rounding) {
        for (double& v : w) v = RoundTo(*input.rounding, v);
      }
      change(w);
      double sums[kTokens];
      int64_t t = 0;
      for (; t + kTokens <= tokens; t += kTokens) {
        Dots<kTokens>(input.x.data() + t * n_in, n_in, w.data(), n_in, sums);
        for (int i = 0; i < kTokens; ++i) y[static_cast<size_t>((t + i) * n_out + n)] = sums[i];
      }
      for (; t < tokens; ++t) {
        Dots<1>(input.x.data() + t * n_in, n_in, w.data(), n_in, sums);
        y[static_cast<size_t>(t * n_out + n)] = sums[0];
      }
    }
  });
}

}  // namespace

void Product(const ProductInput& input, ThreadPool& pool, std::span<double> y) {
  Multiply(input, pool, y, [](std::vector<double>&) {});
}

void ProductSpread(const ProductInput& input, ThreadPool& pool, std::span<double> y) {
  Multiply(input, pool, y, [](std::vector<double>& w) {
    for (double& v : w) v *= v;
  });
  for (double& v : y) v = std::sqrt(v);
}

}  // namespace apr::bisect
