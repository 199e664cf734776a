// TryRowOrders and TryColumnOrders of weight_hypotheses.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "compare/row_matching.h"
#include "compare/weight_hypotheses.h"
#include "model/tensor_table.h"
#include "quant/quant.h"

namespace apr::search {
namespace {

double NearEnough(const Subject& s) {
  return std::min(0.7, 3 * (TypicalError(s.it().a) + TypicalError(s.it().b)) + 1e-4);
}

std::shared_ptr<std::vector<float>> Gather(const std::vector<float>& a, const std::vector<int64_t>& order, int64_t cols) {
  auto out = std::make_shared<std::vector<float>>(order.size() * static_cast<size_t>(cols));
  for (size_t i = 0; i < order.size(); ++i) {
    std::memcpy(out->data() + i * static_cast<size_t>(cols), a.data() + order[i] * cols, static_cast<size_t>(cols) * sizeof(float));
  }
  return out;
}

// ---- the rope order of rows ----

bool MayBeRotated(const Subject& s) {
  if (!s.it().key) return false;
  switch (s.it().key->slot) {
    case Slot::kQ:
    case Slot::kQBias:
    case Slot::kK:
    case Slot::kKBias:
    case Slot::kV:
    case Slot::kVBias:
    case Slot::kQNorm:
    case Slot::kKNorm: return true;
    default: return false;
  }
}

struct RowOrder {
  std::vector<int64_t> order;   // row i of B is row order[i] of A
  std::string text;
};

std::vector<int64_t> Inverse(const std::vector<int64_t>& order) {
  std::vector<int64_t> out(order.size());
  for (size_t i = 0; i < order.size(); ++i) out[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  return out;
}

std::vector<int64_t> Composed(const std::vector<int64_t>& first, const std::vector<int64_t>& then) {
  std::vector<int64_t> out(first.size());
  for (size_t i = 0; i < first.size(); ++i) out[i] = first[static_cast<size_t>(then[i])];
  return out;
}

// Permutations between split halves and adjacent pairs, for every count of heads that divides the rows.
std::vector<RowOrder> RopeOrders(const Subject& s) {
  const int64_t rows = s.rows();
  const ModelConfig& config = *s.pairs.config;
  const int64_t own = HeadsOf(config, s.it().key->slot);
  const int64_t rotary = config.ropes.empty() ? 0 : config.ropes[0].table.rotary_dim;
  std::vector<int64_t> heads = {own, config.num_heads, config.num_kv_heads, 1};
  for (int64_t n = 1; n <= std::min<int64_t>(rows / 4, 256); ++n) heads.push_back(n);
  std::vector<RowOrder> out;
  std::set<std::vector<int64_t>> seen;
  for (const int64_t n : heads) {
    if (n <= 0 || rows % n != 0 || rows / n % 2 != 0) continue;
    for (const int64_t part : {rows / n, rotary}) {
      if (part < 4 || part > rows / n || part % 2 != 0) continue;
      const std::vector<int32_t> narrow = RopeRowOrder(rows, n, part);
      const std::vector<int64_t> order(narrow.begin(), narrow.end());
      const std::string heads_text = n == own ? fmt::format("{} heads", n) : fmt::format("{} heads (the tensor has {})", n, own);
      if (seen.insert(order).second) out.push_back({order, "adjacent pairs against split halves, " + heads_text});
      if (seen.insert(Inverse(order)).second) out.push_back({Inverse(order), "split halves against adjacent pairs, " + heads_text});
    }
  }
  return out;
}

class RopeSearch {
 public:
  RopeSearch(const Subject& s, Trials& trials) : s_(s), trials_(trials), a_(Load(s.it().a)), b_(ValuesOf(s.it().b)), enough_(NearEnough(s)) {
    const int64_t step = std::max<int64_t>(1, s.rows() / 61);
    for (int64_t i = 1; i < s.rows(); i += step) samples_.emplace_back(i, b_.Range(i * s.cols(), s.cols()));
  }

  void Run() {
    const std::vector<RowOrder> single = RopeOrders(s_);
    for (const RowOrder& order : single) {
      if (Fits(order.order) && Take(order)) return;
    }
    // Put right with one count of heads what was permuted with another; or permuted twice.
    for (const RowOrder& first : single) {
      for (const RowOrder& then : single) {
        const RowOrder both{Composed(first.order, then.order), first.text + ", then " + then.text};
        if (Fits(both.order) && Take(both)) return;
      }
    }
    trials_.Reject("rope_permutation", fmt::format("{} row orders of rope, and pairs of them", single.size()), s_.judged->error());
  }

 private:
  // A few rows that the order moves agree.
  bool Fits(const std::vector<int64_t>& order) const {
    const int64_t cols = s_.cols();
    int64_t moved = 0;
    for (const auto& [i, row] : samples_) {
      const int64_t from = order[static_cast<size_t>(i)];
      moved += from != i;
      double square = 0, size = 0;
      for (int64_t c = 0; c < cols; ++c) {
        const double x = (*a_)[static_cast<size_t>(from * cols + c)];
        square += (x - row[static_cast<size_t>(c)]) * (x - row[static_cast<size_t>(c)]);
        size += x * x;
      }
      if (square > enough_ * enough_ * size + 1e-30) return false;
    }
    return moved > 0;
  }

  bool Take(const RowOrder& order) {
    Candidate c{.cause = "rope_permutation", .detail = order.text, .group = "rope_permutation",
                .evidence = fmt::format("rows of {} stand in another rope order: {}", s_.it().name, order.text),
                .fix = "permute the rows once, with this tensor's own count of heads, as the container wants them",
                .values = Changed(Gather(*a_, order.order, s_.cols()), s_.it().a.rows(), s_.it().a.cols(), s_.it().a), .rank = 0};
    return trials_.Try(std::move(c));
  }

  const Subject& s_;
  Trials& trials_;
  std::shared_ptr<std::vector<float>> a_;
  WeightValues b_;
  double enough_;
  std::vector<std::pair<int64_t, std::vector<float>>> samples_;  // rows of B
};

// ---- any order, found by matching rows ----

bool SamePlace(const WeightPair& x, const WeightPair& y) {
  if (x.name_b == y.name_b || x.name_a == y.name_a) return true;
  return x.key && y.key && x.key->layer == y.key->layer && x.key->layer >= 0;
}

// Vectors mix only with those that would be fused with them.
bool MayMix(const WeightPair& x, const WeightPair& y) {
  if (x.name_b == y.name_b || x.name_a == y.name_a) return true;
  if (!x.key || !y.key) return false;
  const auto bias = [](const WeightPair& p) { return std::string_view(SlotName(p.key->slot)).ends_with("_bias"); };
  return bias(x) && bias(y);
}

bool IsFused(const Subject& s) {
  int64_t of_a = 0, of_b = 0;
  for (const WeightPair& pair : s.pairs.pairs) {
    if (s.it().key && pair.key && pair.key->expert != s.it().key->expert) continue;
    of_a += pair.name_a == s.it().name_a;
    of_b += pair.name_b == s.it().name_b;
  }
  return of_a > 1 || of_b > 1;
}

class OrderSearch {
 public:
  // `turned`: columns instead of rows; both sides are transposed and the pool is the tensor itself.
  OrderSearch(const Subject& s, Trials& trials, bool turned)
      : s_(s), trials_(trials), turned_(turned), rows_(turned ? s.cols() : s.rows()), cols_(turned ? s.rows() : s.cols()), pool_(cols_) {
    a_ = Side(s.it().a);
    b_ = Side(s.it().b);
  }

  void Run() {
    Fill();
    const int64_t all = rows_;
    const double work = static_cast<double>(all) * static_cast<double>(pool_.total_rows());
    const int64_t wanted = work > 6e7 ? std::max<int64_t>(64, static_cast<int64_t>(6e7 / static_cast<double>(pool_.total_rows()))) : all;
    const int64_t step = std::max<int64_t>(1, all / wanted);
    for (int64_t r = 0; r < all; r += step) places_.push_back(r);
    std::vector<float> rows;
    for (const int64_t r : places_) rows.insert(rows.end(), b_->begin() + r * cols_, b_->begin() + (r + 1) * cols_);
    map_ = pool_.Match(rows, places_, NearEnough(s_));
    if (TryShift()) return;
    if (step == 1) TryMap();
  }

 private:
  std::shared_ptr<std::vector<float>> Side(const WeightRef& weight) const {
    const auto values = Load(weight);
    if (!turned_) return values;
    auto out = std::make_shared<std::vector<float>>(values->size());
    for (int64_t r = 0; r < cols_; ++r) {
      for (int64_t c = 0; c < rows_; ++c) (*out)[static_cast<size_t>(c * cols_ + r)] = (*values)[static_cast<size_t>(r * rows_ + c)];
    }
    return out;
  }

  void Fill() {
    pool_.Add(*a_);
    names_.push_back("A's");
    if (turned_) return;
    for (size_t i = 0; i < s_.pairs.pairs.size(); ++i) {
      const WeightPair& other = s_.pairs.pairs[i];
      if (i == s_.pair || !SamePlace(other, s_.it())) continue;
      const bool vector = other.a.view.shape.ndim() <= 1;
      if (vector != s_.is_vector() || (!vector && other.a.cols() != cols_) || (vector && !MayMix(other, s_.it()))) continue;
      if (pool_.total_rows() * cols_ + other.a.view.shape.num_elements() > 100'000'000) continue;
      pool_.Add(*Load(other.a));
      names_.push_back("A's " + GroupOf(other) + (other.key && other.key->expert >= 0 ? fmt::format("[{}]", other.key->expert) : ""));
    }
  }

  bool Take(Candidate c, const std::vector<float>& values) {
    std::shared_ptr<std::vector<float>> back;
    if (turned_) {
      back = std::make_shared<std::vector<float>>(values.size());
      for (int64_t r = 0; r < rows_; ++r) {
        for (int64_t k = 0; k < cols_; ++k) (*back)[static_cast<size_t>(k * rows_ + r)] = values[static_cast<size_t>(r * cols_ + k)];
      }
    } else {
      back = std::make_shared<std::vector<float>>(values);
    }
    c.values = Changed(back, s_.it().a.rows(), s_.it().a.cols(), s_.it().a);
    return trials_.Try(std::move(c));
  }

  bool SameRow(int64_t x, int64_t y) const {
    return x == y || std::memcmp(pool_.Row({0, x}), pool_.Row({0, y}), static_cast<size_t>(cols_) * sizeof(float)) == 0;
  }

  const char* what() const { return turned_ ? "columns" : s_.is_vector() ? "elements" : "rows"; }

  // All rows, or those from some row on, come from k rows farther.
  bool TryShift() {
    std::map<int64_t, int64_t> votes;
    int64_t matched = 0;
    for (size_t i = 0; i < map_.size(); ++i) {
      if (map_[i].part != 0) continue;
      ++matched;
      int64_t by = (map_[i].row - places_[i] + rows_) % rows_;
      if (by > rows_ / 2) by -= rows_;
      if (by != 0) ++votes[by];
    }
    if (votes.empty()) return false;
    const auto most = std::max_element(votes.begin(), votes.end(), [](const auto& x, const auto& y) { return x.second < y.second; });
    if (most->second < 3 || most->second * 10 < static_cast<int64_t>(map_.size())) return false;
    const int64_t by = most->first;
    std::vector<float> values(a_->size());
    int64_t moved = 0, lost = 0;
    const double enough = NearEnough(s_);
    for (int64_t r = 0; r < rows_; ++r) {
      const float* row = b_->data() + r * cols_;
      const int64_t from = ((r + by) % rows_ + rows_) % rows_;
      const float* chosen = row;
      if (pool_.IsNear({0, from}, row, enough)) chosen = pool_.Row({0, from}), ++moved;
      else if (pool_.IsNear({0, r}, row, enough)) chosen = pool_.Row({0, r});
      else ++lost;
      std::memcpy(values.data() + r * cols_, chosen, static_cast<size_t>(cols_) * sizeof(float));
    }
    if (lost > std::abs(by) + 1 || moved < 3) return false;
    // What lies neither here nor there must be nowhere.
    for (size_t i = 0; i < map_.size(); ++i) {
      const RowRef ref = map_[i];
      const int64_t from = ((places_[i] + by) % rows_ + rows_) % rows_;
      if (ref.part > 0 || (ref.part == 0 && ref.row != places_[i] && !SameRow(ref.row, from))) return false;
    }
    Candidate c{.cause = "shifted_rows", .detail = fmt::format("{} of {} {} come from {:+d}", moved, rows_, what(), by),
                .group = fmt::format("shifted_rows {:+d} {}", by, GroupOf(s_.it())),
                .evidence = fmt::format("{} of {} {} of B are those {} places {} in A", moved, rows_, what(), std::abs(by), by > 0 ? "farther on" : "before"),
                .fix = fmt::format("move the {} back by {}", what(), by), .a = 0, .b = by};
    return Take(std::move(c), values);
  }

  // Every row is some row of the pool.
  void TryMap() {
    std::vector<float> values(a_->size());
    std::set<std::pair<int64_t, int64_t>> used;
    bool crosses = false;
    int64_t moved = 0, missing = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      const RowRef ref = map_[static_cast<size_t>(r)];
      if (ref.part < 0) {
        ++missing;
        continue;
      }
      used.insert({ref.part, ref.row});
      crosses |= ref.part != 0;
      moved += ref.part != 0 || ref.row != r;
      std::memcpy(values.data() + r * cols_, pool_.Row(ref), static_cast<size_t>(cols_) * sizeof(float));
    }
    const bool one_to_one = static_cast<int64_t>(used.size()) * 10 >= (rows_ - missing) * 9;
    const bool fused = !turned_ && (crosses || IsFused(s_));
    Candidate c;
    c.cause = fused || turned_ || !MayBeRotated(s_) ? (fused || turned_ || !IsTable() ? "fused_layout" : "shifted_rows") : "rope_permutation";
    c.detail = fmt::format("{} of {} {} stand elsewhere", moved, rows_, what());
    c.group = c.cause == "shifted_rows" ? "shifted_rows " + GroupOf(s_.it()) : c.cause;
    c.evidence = fmt::format("{} of B are A's in another order: {}", what(), DescribeRows(map_, names_));
    c.fix = "put the " + std::string(what()) + " in the order that the architecture's table says";
    if (missing > 0 || moved == 0 || (s_.is_vector() && !one_to_one)) {
      trials_.Reject(c.cause, fmt::format("{} of {} {} are none of A's", missing, rows_, what()), s_.judged->error());
      return;
    }
    c.rank = 3;
    Take(std::move(c), values);
  }

  bool IsTable() const {
    if (!s_.it().key) return true;
    const Slot slot = s_.it().key->slot;
    return s_.it().key->layer < 0 || slot == Slot::kRouter;
  }

  const Subject& s_;
  Trials& trials_;
  const bool turned_;
  const int64_t rows_, cols_;
  std::shared_ptr<std::vector<float>> a_, b_;
  RowPool pool_;
  std::vector<std::string> names_;
  std::vector<int64_t> places_;
  std::vector<RowRef> map_;
};

constexpr int64_t kMostElements = 300'000'000;

}  // namespace

void TryRowOrders(const Subject& s, Trials& trials) {
  const int64_t count = s.it().a.view.shape.num_elements();
  if (count > kMostElements || s.rows() < 3) return;
  if (s.pairs.config && MayBeRotated(s)) RopeSearch(s, trials).Run();
  if (!trials.accepted()) OrderSearch(s, trials, false).Run();
}

void TryColumnOrders(const Subject& s, Trials& trials) {
  if (s.is_vector() || s.it().a.view.shape.num_elements() > kMostElements / 4 || s.cols() < 3 || s.rows() < 3) return;
  OrderSearch(s, trials, true).Run();
}

}  // namespace apr::search
