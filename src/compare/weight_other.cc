// TryOtherTensors of weight_hypotheses.h: B holds the content of another tensor of A.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "compare/weight_hypotheses.h"

namespace apr::search {
namespace {

constexpr int64_t kRows = 4;
constexpr int64_t kCols = 256;

// The first columns of a few rows, at places that depend on the shape alone.
std::vector<float> Signature(const WeightRef& weight) {
  const WeightValues values = ValuesOf(weight);
  std::vector<float> out;
  const int64_t rows = std::min(kRows, values.rows);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = i * (values.rows - 1) / std::max<int64_t>(1, rows - 1);
    const std::vector<float> part = values.Range(row * values.cols, std::min(kCols, values.cols));
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double square = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    square += d * d;
    size += static_cast<double>(b[i]) * b[i];
  }
  return size > 0 ? square / size : square;
}

bool SameKind(const WeightPair& x, const WeightPair& y) { return x.key && y.key && x.key->slot == y.key->slot && x.key->expert == y.key->expert; }

Candidate Describe(const Subject& s, size_t other) {
  const WeightPair& here = s.it();
  const WeightPair& there = s.pairs.pairs[other];
  Candidate c;
  c.values = ValuesOf(there.a);
  c.source_pair = other;
  c.detail = "content of A's " + there.name;
  c.evidence = fmt::format("{} of B holds what {} of A holds", here.name, there.name);
  c.fix = fmt::format("B's {} needs its own content", here.name);
  if (SameKind(here, there)) {
    c.cause = "layer_order";
    c.group = "layer_order";
    c.a = here.key->layer;
    c.b = there.key->layer;
    return c;
  }
  const bool one_tensor = here.name_b == there.name_b || here.name_a == there.name_a;
  if (one_tensor && here.key && there.key && here.key->expert == there.key->expert) {
    c.cause = c.group = "fused_layout";
    c.evidence = fmt::format("the part {} of B's {} holds A's {}", SlotName(here.key->slot), here.name_b, SlotName(there.key->slot));
    c.fix = "put the parts of the fused tensor in the order that the architecture's table says";
    return c;
  }
  c.cause = "swapped_tensors";
  const std::string p = GroupOf(here), q = GroupOf(there);
  const bool experts = here.key && there.key && here.key->expert >= 0 && here.key->slot == there.key->slot;
  c.group = "swapped_tensors " + (experts ? fmt::format("experts layer {}", here.key->layer) : std::min(p, q) + " " + std::max(p, q));
  c.a = here.name;
  c.b = there.name;
  return c;
}

}  // namespace

void TryOtherTensors(const Subject& s, Trials& trials) {
  const Shape& shape = s.it().b.view.shape;
  const std::vector<float> wanted = Signature(s.it().b);
  std::vector<std::pair<double, size_t>> near;
  for (size_t i = 0; i < s.pairs.pairs.size(); ++i) {
    const WeightPair& other = s.pairs.pairs[i];
    if (i == s.pair || !(other.a.view.shape == shape)) continue;
    // A tied head is the embedding.
    if (other.a.view.bytes.data() == s.it().a.view.bytes.data()) continue;
    near.push_back({Distance(Signature(other.a), wanted), i});
  }
  if (near.empty()) return;
  // Among equals the own layer, then the own slot in a layer nearby.
  const auto strangeness = [&](size_t i) {
    const WeightPair& other = s.pairs.pairs[i];
    if (!other.key || !s.it().key) return 0;
    if (SameKind(other, s.it())) return 1 + std::abs(other.key->layer - s.it().key->layer);
    return other.key->layer == s.it().key->layer ? 0 : 1000;
  };
  std::stable_sort(near.begin(), near.end(), [&](const auto& x, const auto& y) {
    return x.first != y.first ? x.first < y.first : strangeness(x.second) < strangeness(y.second);
  });
  const bool repeated = near.size() > 8 && near[8].first == near[0].first;
  if (repeated && !(near[0].first < 1e-12)) return;
  for (size_t i = 0; i < near.size() && i < 2; ++i) {
    if (trials.Try(Describe(s, near[i].second))) return;
  }
}

}  // namespace apr::search
