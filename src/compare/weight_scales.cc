// TryScales and TryCoarserTypes of weight_hypotheses.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "compare/weight_hypotheses.h"
#include "quant/quant.h"
#include "tensor/dtype.h"

namespace apr::search {
namespace {

struct Tile {
  int64_t rows, cols;
  const char* name;
};

// Scales of tiles, solved by least squares, and A multiplied by them.
struct Scaled {
  std::shared_ptr<std::vector<float>> values;
  std::vector<double> scales;   // of tiles, row by row
  int64_t off = 0;              // tiles whose scale is not 1
  double least = 0, most = 0;   // of those
};

Scaled SolveTiles(const std::vector<float>& a, const std::vector<float>& b, int64_t rows, int64_t cols, const Tile& tile) {
  const int64_t across = (cols + tile.cols - 1) / tile.cols;
  const int64_t down = (rows + tile.rows - 1) / tile.rows;
  std::vector<double> aa(static_cast<size_t>(across * down)), ab = aa;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const auto t = static_cast<size_t>(r / tile.rows * across + c / tile.cols);
      const auto i = static_cast<size_t>(r * cols + c);
      aa[t] += static_cast<double>(a[i]) * a[i];
      ab[t] += static_cast<double>(a[i]) * b[i];
    }
  }
  Scaled out;
  out.scales.resize(aa.size());
  for (size_t t = 0; t < aa.size(); ++t) out.scales[t] = aa[t] > 0 ? ab[t] / aa[t] : 1;
  out.values = std::make_shared<std::vector<float>>(a.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const auto i = static_cast<size_t>(r * cols + c);
      (*out.values)[i] = static_cast<float>(a[i] * out.scales[static_cast<size_t>(r / tile.rows * across + c / tile.cols)]);
    }
  }
  return out;
}

void CountOff(Scaled& scaled, double slack) {
  for (const double s : scaled.scales) {
    if (std::abs(s - 1) <= slack) continue;
    if (scaled.off++ == 0) scaled.least = scaled.most = s;
    scaled.least = std::min(scaled.least, s);
    scaled.most = std::max(scaled.most, s);
  }
}

void TryWhole(const Subject& s, Trials& trials) {
  const ElementDiff& d = s.judged->diff;
  if (d.sum_aa == 0 || s.it().a.view.shape.num_elements() < 4) return;
  const double scale = d.sum_ab / d.sum_aa;
  if (std::abs(scale - 1) < 1e-7 || scale == 0) return;
  // Of noise, too, some factor is the best; a scaled tensor is one whose factor is most of the difference, or more than
  // storing can make.
  if (s.judged->slope_explained && (scale - 1) * (scale - 1) < 0.5 * d.nmse()) return;
  const auto values = Load(s.it().a);
  for (float& v : *values) v = static_cast<float>(v * scale);
  const std::string factor = fmt::format("{:.6g}", scale), alike = fmt::format("{:.3g}", scale);  // storage rounds it differently
  Candidate c{.cause = "scaled_tensor", .detail = "A times " + factor, .group = "scaled_tensor " + alike + " " + GroupOf(s.it()),
              .evidence = fmt::format("B is {} x A in every element (solved)", factor), .fix = fmt::format("divide the tensor by {}", factor),
              .a = 1, .b = scale, .values = Changed(values, s.it().a.rows(), s.it().a.cols(), s.it().a)};
  const DType narrow = s.it().a.view.dtype;
  if (trials.Try(c) || !PlainErrorOf(narrow) || narrow == s.it().b.view.dtype) return;
  c.b_dtype = narrow;  // multiplied in A's type, stored in a wider one
  trials.Try(std::move(c));
}

void TryTiles(const Subject& s, const std::vector<float>& a, const std::vector<float>& b, const Tile& tile, Trials& trials) {
  const int64_t rows = s.it().a.rows(), cols = s.it().a.cols();
  if (tile.rows > rows || tile.cols > cols || tile.rows * tile.cols < 6 || tile.rows * tile.cols >= rows * cols) return;
  Scaled scaled = SolveTiles(a, b, rows, cols, tile);
  const double slack = 0.5 * (TypicalError(s.it().a) + TypicalError(s.it().b)) + 1e-6;
  CountOff(scaled, slack);
  if (scaled.off == 0) return;
  const auto tiles = static_cast<int64_t>(scaled.scales.size());
  const bool zero = std::max(std::abs(scaled.least), std::abs(scaled.most)) < slack;
  const std::string range = fmt::format("{:.6g} .. {:.6g}", scaled.least, scaled.most);
  Candidate c{.cause = zero ? "zeroed_tensor" : "scaled_tensor", .detail = fmt::format("{} of {} {} times {}", scaled.off, tiles, tile.name, range),
              .group = (zero ? "zeroed_tensor " : "scaled_tensor " + std::string(tile.name) + " ") + GroupOf(s.it()),
              .evidence = fmt::format("{} of {} {} of B are {} x those of A (solved)", scaled.off, tiles, tile.name, range),
              .fix = "multiply by the scales that were lost", .a = 1, .b = Json::array({scaled.least, scaled.most}),
              .values = Changed(scaled.values, rows, cols, s.it().a), .rank = 2};
  trials.Try(std::move(c));
}

// A rounded to whole multiples of a scale per group of a row: what absmax quantisers do.
std::shared_ptr<std::vector<float>> AbsMaxGrid(const std::vector<float>& a, int64_t group, double levels) {
  auto out = std::make_shared<std::vector<float>>(a.size());
  for (size_t first = 0; first < a.size(); first += static_cast<size_t>(group)) {
    const size_t end = std::min(a.size(), first + static_cast<size_t>(group));
    double top = 0;
    for (size_t i = first; i < end; ++i) top = std::max(top, std::abs(static_cast<double>(a[i])));
    const double scale = top / levels;
    for (size_t i = first; i < end; ++i) (*out)[i] = scale > 0 ? static_cast<float>(std::nearbyint(a[i] / scale) * scale) : 0.0f;
  }
  return out;
}

Candidate Coarse(const Subject& s, const std::string& type) {
  return {.cause = "coarse_quantization", .detail = "error of " + type, .group = "coarse_quantization " + type,
          .evidence = fmt::format("B is stored as {} but carries the error of {}: {:.1f} x what its type must have", NameOf(s.it().b.view.dtype), type,
                                  s.judged->expected_rmse > 0 ? s.judged->diff.rmse() / s.judged->expected_rmse : INFINITY),
          .fix = "convert from the original weights, not from a " + type + " copy",
          .a = NameOf(s.it().a.view.dtype), .b = type, .must_cost = true, .rank = 2};
}

void TryGrids(const Subject& s, const std::vector<float>& a, Trials& trials) {
  const int64_t rows = s.it().a.rows(), cols = s.it().a.cols();
  const std::pair<int64_t, std::string> groups[] = {{cols, "row"}, {rows * cols, "tensor"}, {128, "128"}, {64, "64"}, {32, "32"}};
  for (const auto& [group, name] : groups) {
    if (group > cols && name != "tensor") continue;
    if (group < cols && cols % group != 0) continue;
    for (const double levels : {127.0, 7.0, 8.0}) {
      Candidate c = Coarse(s, fmt::format("int{} with a scale per {}", levels > 100 ? 8 : 4, name));
      c.values = Changed(AbsMaxGrid(a, group, levels), rows, cols, s.it().a);
      c.rank = 1;
      if (trials.Try(std::move(c))) return;
    }
  }
}

}  // namespace

void TryScales(const Subject& s, Trials& trials) {
  TryWhole(s, trials);
  if (trials.accepted() || s.it().a.view.shape.num_elements() > 80'000'000) return;
  const int64_t rows = s.it().a.rows(), cols = s.it().a.cols();
  const auto a = Load(s.it().a), b = Load(s.it().b);
  for (const Tile& tile : {Tile{1, cols, "rows"}, Tile{rows, 1, "columns"}, Tile{128, 128, "blocks of 128 x 128"},
                           Tile{1, 128, "groups of 128"}, Tile{1, 64, "groups of 64"}, Tile{1, 32, "groups of 32"}}) {
    TryTiles(s, *a, *b, tile, trials);
    if (trials.accepted()) return;
  }
}

void TryCoarserTypes(const Subject& s, Trials& trials) {
  const double error = s.judged->error();
  if (!(error < 0.75) || s.it().b.grid) return;  // codes that are packed are what they are
  const DType declared = s.it().b.view.dtype;
  const auto a = Load(s.it().a);
  const int64_t rows = s.it().a.rows(), cols = s.it().a.cols();
  const ElementDiff& d = s.judged->diff;
  const double scale = d.sum_aa > 0 ? d.sum_ab / d.sum_aa : 1;
  const bool one_factor = (scale - 1) * (scale - 1) > 0.5 * d.nmse();  // no rounding is that
  // Plain types: a rounding rule, so B must be exactly that.
  for (const DType type : {DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    const bool eight_bits = type == DType::kF8E4M3 || type == DType::kF8E5M2;  // coarse enough to cover a small factor
    if (type == declared || (one_factor && eight_bits) || error > 3 * TypicalRelativeError(type)) continue;
    Candidate c = Coarse(s, NameOf(type));
    c.values = Changed(a, rows, cols, s.it().a);
    c.b_dtype = type;
    if (trials.Try(std::move(c))) return;
  }
  if (one_factor) return;
  TryGrids(s, *a, trials);
  if (trials.accepted()) return;
  // Quantised ones, the nearest in error first: of those that the errors fit, the one that they fit best.
  std::vector<std::pair<double, DType>> types;
  for (const DTypeInfo& info : AllDTypes()) {
    const double typical = TypicalRelativeError(info.dtype);
    if (!IsQuantized(info.dtype) || typical <= 0 || info.dtype == declared || info.dtype == DType::kAprQ8 || info.dtype == DType::kAprQ4) continue;
    if (rows * cols % info.block_elems != 0 || error < 0.3 * typical || error > 3 * typical) continue;
    types.push_back({std::abs(std::log(error / typical)), info.dtype});
  }
  std::sort(types.begin(), types.end());
  for (size_t i = 0; i < types.size() && i < 6; ++i) {
    Candidate c = Coarse(s, NameOf(types[i].second));
    // Rows that are no whole blocks: blocks of the elements one after the other.
    const int64_t block = InfoOf(types[i].second).block_elems;
    c.values = cols % block == 0 ? Changed(a, rows, cols, s.it().a) : Changed(a, rows * cols / block, block, s.it().a);
    c.b_dtype = types[i].second;
    trials.Try(std::move(c));
  }
}

}  // namespace apr::search
