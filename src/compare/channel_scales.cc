// See channel_scales.h.
#include "compare/channel_scales.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <optional>
#include <string>

#include "compare/storage_floor.h"
#include "compare/weight_values.h"
#include "op/context.h"
#include "quant/block_step.h"

namespace apr {
namespace {

using Factors = std::vector<double>;  // empty: 1 everywhere

struct Member {
  const WeightPair* pair = nullptr;
  WeightRow* row = nullptr;
  Factors rows, cols;   // B's rows and columns over A's
  double rounding = 0;  // relative error of the factors

  bool differs() const { return row->verdict == WeightVerdict::kDifferent; }
};

double Squared(double x) { return x * x; }

Factors Inverse(const Factors& factors) {
  Factors out;
  for (const double f : factors) out.push_back(1 / f);
  return out;
}

double PlainRelative(const WeightPair& pair) {
  double out = 0;
  for (const WeightRef* side : {&pair.a, &pair.b}) {
    if (const auto plain = PlainErrorOf(side->view.dtype); plain && !side->grid) out += plain->relative;
  }
  return out;
}

class Part {
 public:
  Part(double norm_offset, ThreadPool& pool) : norm_offset_(norm_offset), pool_(pool) {}

  void Add(Slot slot, int expert, const WeightPair& pair, WeightRow& row) { members_[{slot, expert}] = {&pair, &row, {}, {}, 0}; }

  void Explain(Slot norm, Slot norm_bias, const std::vector<Slot>& readers) {
    Member* n = Find(norm);
    if (n == nullptr || !n->differs()) return;
    const auto factors = NormFactors(*n->pair);
    if (!factors) return;
    norm_ = n;
    n->cols = *factors;
    for (auto& [key, member] : members_) {
      if (std::find(readers.begin(), readers.end(), key.first) == readers.end()) continue;
      member.cols = *factors;
      member.rounding += PlainRelative(*n->pair);
    }
    if (Member* bias = Find(norm_bias)) bias->cols = Inverse(*factors), bias->rounding += PlainRelative(*n->pair);
  }

  // Rows of `maker` that the columns of `reader` take back.
  void Explain(Slot maker, Slot maker_bias, Slot reader) {
    Member* m = Find(maker);
    Member* r = Find(reader);
    if (m == nullptr || r == nullptr || !m->differs() || !r->differs() || m->pair->a.rows() != r->pair->a.cols()) return;
    if (Judge(*m).explained) return;
    const Factors factors = SharedFactors(*m, *r);
    m->rows = factors;
    r->cols = Inverse(factors);
    for (Member* each : {m, r}) each->rounding += PlainRelative(*m->pair);
    if (Member* bias = Find(maker_bias)) bias->cols = factors, bias->rounding += PlainRelative(*m->pair);
  }

  // All members fit, or nothing is changed.
  void Settle(std::map<SlotKey, ChannelScale>& found) {
    std::vector<std::pair<Member*, StorageJudgement>> judged;
    for (auto& [key, member] : members_) {
      const bool scaled = !member.rows.empty() || !member.cols.empty();
      if (&member == norm_ || (!scaled && !member.differs())) continue;
      if (!scaled) return;
      judged.emplace_back(&member, Judge(member));
      if (!judged.back().second.explained) return;
    }
    if (judged.size() < 2) return;
    for (auto& [member, judgement] : judged) {
      WeightRow& row = *member->row;
      row.verdict = WeightVerdict::kExplained;
      row.expected_rmse = judgement.expected_rmse;
      row.ratio = judgement.ratio;
      row.bad_runs = 0;
      found[*member->pair->key] = {member->rows, member->cols};
      row.explanation = fmt::format("{}: {:.2f} x the error these types must have, once channels are scaled as others of the layer take back",
                                    TypesText(member->pair->a, member->pair->b), row.ratio);
    }
    if (norm_ == nullptr) return;
    found[*norm_->pair->key] = {};
    norm_->row->verdict = WeightVerdict::kExplained;
    norm_->row->ratio = 0;
    norm_->row->explanation = "channels are scaled, and every matrix that reads them takes it back";
  }

 private:
  Member* Find(Slot slot) {
    const auto it = members_.find({slot, -1});
    return it == members_.end() ? nullptr : &it->second;
  }

  // A's over B's, as they multiply.
  std::optional<Factors> NormFactors(const WeightPair& pair) const {
    const std::vector<double> a = ReadWeightF64(pair.a), b = ReadWeightF64(pair.b);
    Factors out;
    for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
      const double factor = (a[i] + norm_offset_) / (b[i] + norm_offset_);
      if (!std::isfinite(factor) || factor == 0) return std::nullopt;
      out.push_back(factor);
    }
    return out;
  }

  // B over A of each of the maker's rows, or of the reader's columns, by least squares of the side that storing changed more on the other.
  static Factors Slopes(const Member& member, bool of_rows) {
    const std::vector<float> a = Scaled(ReadWeightF32(member.pair->a), member, false), b = ReadWeightF32(member.pair->b);
    const auto cols = static_cast<size_t>(member.pair->a.cols());
    const bool off = TypicalError(member.pair->a) > TypicalError(member.pair->b);
    Factors square(of_rows ? a.size() / cols : cols), ab(square.size());
    for (size_t i = 0; i < a.size(); ++i) {
      const size_t at = of_rows ? i / cols : i % cols;
      square[at] += Squared(off ? b[i] : a[i]);
      ab[at] += static_cast<double>(a[i]) * b[i];
    }
    for (size_t at = 0; at < ab.size(); ++at) ab[at] = square[at] > 0 && ab[at] != 0 ? (off ? square[at] / ab[at] : ab[at] / square[at]) : 1;
    return ab;
  }

  // What the maker's rows were multiplied by and the reader's columns divided by. A quantiser that clips makes both slopes smaller:
  // that cancels in their ratio.
  static Factors SharedFactors(const Member& maker, const Member& reader) {
    const Factors rows = Slopes(maker, true), cols = Slopes(reader, false);
    Factors out;
    for (size_t i = 0; i < rows.size(); ++i) {
      const double ratio = rows[i] / cols[i];
      out.push_back(ratio > 0 ? std::copysign(std::sqrt(ratio), rows[i]) : rows[i]);
    }
    return out;
  }

  static double Largest(const Member& member, bool off) {
    double out = 1;
    for (const Factors* factors : {&member.rows, &member.cols}) {
      double most = 0;
      for (const double f : *factors) most = std::max(most, std::abs(off ? 1 / f : f));
      if (!factors->empty()) out *= most;
    }
    return out;
  }

  // The factors of a member on the values of one side: onto A's, or off B's.
  static std::vector<float> Scaled(std::vector<float> values, const Member& member, bool off) {
    const auto cols = static_cast<size_t>(member.pair->a.cols());
    for (size_t i = 0; i < values.size(); ++i) {
      double factor = 1;
      if (!member.rows.empty()) factor *= member.rows[i / cols];
      if (!member.cols.empty()) factor *= member.cols[i % cols];
      values[i] = static_cast<float>(off ? values[i] / factor : values[i] * factor);
    }
    return values;
  }

  // The side that storing changed more stays as it is, and is judged as made of the other one, scaled.
  StorageJudgement Judge(const Member& member) const {
    const WeightRef &a = member.pair->a, &b = member.pair->b;
    const bool off = TypicalError(a) > TypicalError(b);
    const WeightRef& moved = off ? b : a;
    const auto values = std::make_shared<const std::vector<float>>(Scaled(ReadWeightF32(moved), member, off));
    WeightValues scaled = ValuesOf(values, moved.rows(), moved.cols(), moved.view.dtype);
    scaled.rounding = member.rounding + 0x1p-21;
    // Subnormal numbers are rounded by an absolute amount, which is scaled too.
    if (const auto plain = PlainErrorOf(scaled.dtype); plain && plain->relative > 0) scaled.shift = Largest(member, off) * plain->absolute / plain->relative;
    return JudgeStorage(scaled, ValuesOf(off ? a : b), pool_);
  }

  double norm_offset_;
  ThreadPool& pool_;
  std::map<std::pair<Slot, int>, Member> members_;
  Member* norm_ = nullptr;
};

using Slots = std::vector<Slot>;
const Slots kAttentionReaders = {Slot::kQ, Slot::kK, Slot::kV, Slot::kQDown, Slot::kKvDown};
const Slots kFfnReaders = {Slot::kGate, Slot::kUp, Slot::kRouter, Slot::kSharedRouter, Slot::kSharedGate, Slot::kSharedUp, Slot::kExpertGate, Slot::kExpertUp};
const Slots kAttention = {Slot::kAttnNorm, Slot::kAttnNormBias, Slot::kQ, Slot::kK, Slot::kV, Slot::kVBias, Slot::kO, Slot::kQDown, Slot::kKvDown};
const Slots kFfn = {Slot::kFfnNorm, Slot::kFfnNormBias, Slot::kGate, Slot::kUp, Slot::kUpBias, Slot::kDown, Slot::kRouter, Slot::kSharedRouter,
                    Slot::kSharedGate, Slot::kSharedUp, Slot::kExpertGate, Slot::kExpertUp};

struct Layer {
  std::vector<std::pair<const WeightPair*, WeightRow*>> weights;

  bool Has(Slot slot) const {
    return std::any_of(weights.begin(), weights.end(), [&](const auto& w) { return w.first->key->slot == slot; });
  }
  void AddTo(Part& part, const Slots& slots) const {
    for (const auto& [pair, row] : weights) {
      if (std::find(slots.begin(), slots.end(), pair->key->slot) != slots.end()) part.Add(pair->key->slot, pair->key->expert, *pair, *row);
    }
  }
};

void ExplainLayer(const Layer& layer, double norm_offset, ThreadPool& pool, std::map<SlotKey, ChannelScale>& found) {
  // Where attention and feed-forward read the same norm, they are one part.
  const bool parallel = !layer.Has(Slot::kFfnNorm);
  Part attention(norm_offset, pool), ffn(norm_offset, pool);
  Part& second = parallel ? attention : ffn;
  layer.AddTo(attention, kAttention);
  layer.AddTo(second, kFfn);
  Slots readers = kAttentionReaders;
  if (parallel) readers.insert(readers.end(), kFfnReaders.begin(), kFfnReaders.end());
  attention.Explain(Slot::kAttnNorm, Slot::kAttnNormBias, readers);
  if (!parallel) ffn.Explain(Slot::kFfnNorm, Slot::kFfnNormBias, kFfnReaders);
  attention.Explain(Slot::kV, Slot::kVBias, Slot::kO);
  // Without a gate, up goes through the activation, which is not linear.
  if (layer.Has(Slot::kGate)) second.Explain(Slot::kUp, Slot::kUpBias, Slot::kDown);
  attention.Settle(found);
  if (!parallel) ffn.Settle(found);
}

// How far apart the values of a weight lie, where they are stored in whatever way.
void ReadSteps(const WeightRef& weight, int64_t first, int64_t count, float* to) {
  if (weight.grid) return weight.grid->steps(first, count, to);
  const int64_t cols = weight.cols();
  if (const auto plain = PlainErrorOf(weight.view.dtype)) {
    ValuesOf(weight).read(first, count, to);
    for (int64_t i = 0; i < count * cols; ++i) to[i] = static_cast<float>(2 * (plain->relative * std::abs(to[i]) + plain->absolute));
    return;
  }
  for (int64_t row = first; row < first + count; ++row) {
    const int64_t stored = weight.row_order ? (*weight.row_order)[static_cast<size_t>(row)] : row;
    for (int64_t col = 0; col < cols; ++col) *to++ = StepAt(weight.view, stored, col);
  }
}

double FactorAt(const ChannelScale& scale, int64_t row, int64_t col) {
  return (scale.rows.empty() ? 1.0 : scale.rows[static_cast<size_t>(row)]) * (scale.cols.empty() ? 1.0 : scale.cols[static_cast<size_t>(col)]);
}

}  // namespace

std::map<SlotKey, ChannelScale> ExplainChannelScales(const WeightPairs& pairs, std::vector<WeightRow>& rows, ThreadPool& pool) {
  std::map<SlotKey, ChannelScale> found;
  if (!pairs.config) return found;
  std::map<std::string, WeightRow*> by_name;
  for (WeightRow& row : rows) by_name[row.name] = &row;
  std::map<int, Layer> layers;
  std::map<int, int> different;
  for (const WeightPair& pair : pairs.pairs) {
    const auto row = by_name.find(pair.name);
    if (!pair.key || pair.key->layer < 0 || row == by_name.end()) continue;
    layers[pair.key->layer].weights.emplace_back(&pair, row->second);
    different[pair.key->layer] += row->second->verdict == WeightVerdict::kDifferent;
  }
  for (const auto& [number, layer] : layers) {
    if (different[number] > 1) ExplainLayer(layer, pairs.config->norm_offset, pool, found);
  }
  return found;
}

WeightRef ScaledBack(const WeightRef& weight, const ChannelScale& scale) {
  const auto shared = std::make_shared<const ChannelScale>(scale);
  const int64_t cols = weight.cols();
  WeightRef out{.source = weight.source};
  out.computed = ComputedBytes::Reserve(weight.source, static_cast<uint64_t>(weight.view.shape.num_elements()) * sizeof(float), [weight, shared, cols](std::span<std::byte> to) {
    const std::vector<float> values = ReadWeightF32(weight);
    auto* at = reinterpret_cast<float*>(to.data());
    for (int64_t i = 0; i < std::ssize(values); ++i) at[i] = static_cast<float>(values[static_cast<size_t>(i)] / FactorAt(*shared, i / cols, i % cols));
  });
  out.view = {DType::kF32, weight.view.shape, out.computed->bytes()};
  auto grid = std::make_shared<WeightGrid>();
  *grid = weight.grid ? *weight.grid : WeightGrid{.name = StoredText(weight), .steps = {}, .typical = TypicalError(weight), .freedom = 1};
  grid->steps = [weight, shared, cols](int64_t first, int64_t count, float* to) {
    ReadSteps(weight, first, count, to);
    for (int64_t i = 0; i < count * cols; ++i) to[i] = static_cast<float>(to[i] / std::abs(FactorAt(*shared, first + i / cols, i % cols)));
  };
  out.grid = std::move(grid);
  return out;
}

}  // namespace apr
