// See weight_search.h: the order of the hypotheses, and the simplest of them.
#include "compare/weight_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "compare/weight_hypotheses.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace search {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kSampleRuns = 16;
constexpr int64_t kRun = 256;

// A hypothesis that is farther than this on a few runs is not looked at whole.
double QuickLimit(double typical_a, double typical_b) { return std::min(0.9, 3 * (typical_a + typical_b) + 1e-3); }

// B all zero, or nothing but NaN.
void TryUniform(const Subject& s, Trials& trials) {
  const ElementDiff& d = s.judged->diff;
  if (d.finite == d.count && d.sum_bb == 0 && d.sum_aa > 0) {
    trials.Accept({.cause = "zeroed_tensor", .detail = "every element of B is 0", .group = "zeroed_tensor " + GroupOf(s.it()),
                   .evidence = fmt::format("all {} elements of B are 0; in A their root mean square is {:.4g}", d.count, d.rms_a()),
                   .fix = "write the tensor again from its source", .rank = 0}, 0);
  }
  if (d.nan_b == d.count && d.nan_a == 0) {
    const bool blocks = IsQuantized(s.it().b.view.dtype);
    trials.Accept({.cause = blocks ? "nan_block_scale" : "nan_values", .detail = "every element of B is NaN",
                   .group = (blocks ? "nan_block_scale " : "nan_values ") + GroupOf(s.it()),
                   .evidence = fmt::format("all {} elements of B are NaN", d.count), .fix = "write the tensor again from its source", .rank = 0}, 0);
  }
}

void TryOffsets(const Subject& s, Trials& trials) {
  if (!s.is_vector() && !IsNormSlot(s.it())) return;
  const std::vector<float> a = ReadWeightF32(s.it().a), b = ReadWeightF32(s.it().b);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(b[i]) - a[i];
  const double offset = std::round(sum / static_cast<double>(a.size()));
  if (!(std::abs(offset) >= 1 && std::abs(offset) <= 2)) return;
  auto moved = std::make_shared<std::vector<float>>(a);
  for (float& v : *moved) v = static_cast<float>(v + offset);
  Candidate c{.cause = "norm_offset", .detail = fmt::format("A {:+g}", offset), .group = fmt::format("norm_offset {:+g}", offset),
              .evidence = fmt::format("B is A {:+g} in every element", offset),
              .fix = offset > 0 ? "subtract what was added to the norm weights" : "add 1 to the norm weights once", .a = 0, .b = offset,
              .values = Changed(moved, s.it().a.rows(), s.it().a.cols(), s.it().a), .rank = 1};
  c.values.shift = std::abs(offset) + std::abs(s.it().a.add);
  if (trials.Try(c)) return;
  for (const DType narrow : {DType::kF16, DType::kBF16}) {  // added in a narrow type, stored in a wider one
    c.values.dtype = narrow;
    if (trials.Try(c)) return;
  }
}

std::shared_ptr<std::vector<float>> Transpose(const std::vector<float>& values, int64_t rows, int64_t cols) {
  auto out = std::make_shared<std::vector<float>>(values.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) (*out)[static_cast<size_t>(c * rows + r)] = values[static_cast<size_t>(r * cols + c)];
  }
  return out;
}

// Of matrices: B = A^T where shapes allow it, or A^T's elements under A's shape, or the other way round.
void TryTransposed(const Subject& s, Trials& trials) {
  const Shape& a = s.it().a.view.shape;
  const Shape& b = s.it().b.view.shape;
  if (a.ndim() != 2 || b.ndim() != 2 || a.num_elements() != b.num_elements() || a[0] == 1 || a[1] == 1) return;
  const auto values = Load(s.it().a);
  Candidate c{.cause = "transposed", .detail = "B is the transpose of A", .group = "transposed",
              .evidence = fmt::format("element [r, c] of B is element [c, r] of A, shapes {} and {}", a.ToString(), b.ToString()),
              .fix = "store the matrix as [out, in]"};
  if (b[0] == a[1] && b[1] == a[0]) {
    c.values = Changed(Transpose(*values, a[0], a[1]), b[0], b[1], s.it().a);
    trials.Try(c);
    if (a[0] == a[1]) return;
    c.cause = "wrong_shape";
    c.detail = "the same elements in the same order under swapped dimensions";
    c.group = "wrong_shape " + GroupOf(s.it());
    c.evidence = fmt::format("B has shape {} where A has {}; the elements agree in linear order", b.ToString(), a.ToString());
    c.fix = "write the shape as [out, in]";
    c.values = Changed(values, b[0], b[1], s.it().a);
    trials.Try(std::move(c));
    return;
  }
  if (!(a == b)) return;
  c.detail = "B holds the elements of A's transpose under A's shape";
  c.evidence = fmt::format("the bytes of B are those of A transposed, read under the shape {}", a.ToString());
  c.values = Changed(Transpose(*values, a[0], a[1]), a[0], a[1], s.it().a);
  trials.Try(c);
  c.values = Changed(Transpose(*values, a[1], a[0]), a[0], a[1], s.it().a);
  trials.Try(std::move(c));
}

}  // namespace

std::shared_ptr<std::vector<float>> Load(const WeightRef& weight) {
  return std::make_shared<std::vector<float>>(ValuesOf(weight).All());
}

WeightValues Changed(std::shared_ptr<const std::vector<float>> values, int64_t rows, int64_t cols, const WeightRef& like) {
  WeightValues out = ValuesOf(std::move(values), rows, cols, like.view.dtype);
  out.shift = like.add;
  return out;
}

std::string GroupOf(const WeightPair& pair) { return pair.key ? SlotName(pair.key->slot) : pair.name; }

bool IsNormSlot(const WeightPair& pair) {
  if (!pair.key) return pair.name.find("norm") != std::string::npos;
  const std::string name = SlotName(pair.key->slot);
  return name.find("norm") != std::string::npos && name.find("bias") == std::string::npos;
}

Trials::Trials(const Subject& subject) : subject_(subject), b_(ValuesOf(subject.it().b)) {}

double Trials::SampleError(const Candidate& candidate) const {
  const int64_t total = b_.elements();
  const int64_t runs = std::min(kSampleRuns, (total + kRun - 1) / kRun);
  ElementDiff diff;
  for (int64_t i = 0; i < runs; ++i) {
    const int64_t first = i * ((total - 1) / runs);
    const int64_t count = std::min(kRun, total - first);
    Accumulate(diff, candidate.values.Range(first, count), b_.Range(first, count), first);
  }
  return diff.relative_error();
}

bool Trials::Try(Candidate candidate) {
  const DType type = candidate.b_dtype.value_or(b_.dtype);
  const std::shared_ptr<const WeightGrid> grid = candidate.b_dtype ? nullptr : b_.grid;
  double error = SampleError(candidate);
  bool good = error <= QuickLimit(TypicalError(candidate.values.dtype, candidate.values.grid), TypicalError(type, grid));
  if (good) {
    WeightValues b = b_;
    if (candidate.values.cols != b.cols) b = ValuesOf(std::make_shared<std::vector<float>>(b_.All()), candidate.values.rows, candidate.values.cols, type);
    b.dtype = type;
    b.grid = candidate.values.cols == b_.cols ? grid : nullptr;
    const StorageJudgement judged = JudgeStorage(candidate.values, b, subject_.pool);
    error = judged.error();
    good = judged.explained;
    // A supposed coarser type must also cost what it is supposed to cost.
    if (good && candidate.b_dtype && (candidate.must_cost || !PlainErrorOf(type))) good = judged.ratio >= 0.5;
    // ... and what it costs is then no error any more: what is left is what it costs too much or too little.
    if (good && candidate.b_dtype) error *= PlainErrorOf(type) ? 0 : std::sqrt(std::abs(1 - 1 / (judged.ratio * judged.ratio)));
  }
  if (!good) {
    Reject(candidate.cause, candidate.detail, error);
    return false;
  }
  Accept(std::move(candidate), error);
  return true;
}

void Trials::Accept(Candidate candidate, double error_after) {
  trials_.push_back({candidate.cause, candidate.detail, error_after, true});
  if (best_ && (best_->rank < candidate.rank || (best_->rank == candidate.rank && best_error_ <= error_after))) return;
  best_ = std::move(candidate);
  best_error_ = error_after;
}

void Trials::Reject(std::string cause, std::string detail, double error_after) {
  trials_.push_back({std::move(cause), std::move(detail), error_after, false});
}

WeightExplanation Trials::Finish() {
  WeightExplanation out;
  const Subject& s = subject_;
  out.error_before = s.judged != nullptr ? s.judged->error() : kInfinity;
  out.floor = s.judged != nullptr ? s.judged->floor() : 0;
  if (best_) {
    out.cause = best_->cause;
    out.detail = best_->detail;
    out.group = best_->group;
    out.evidence = best_->evidence;
    out.fix = best_->fix;
    out.a = best_->a;
    out.b = best_->b;
    out.error_after = best_error_;
    out.index = best_->index;
    out.source_pair = best_->source_pair;
    if (out.source_pair) out.source = s.pairs.pairs[*out.source_pair].name;
  }
  std::stable_sort(trials_.begin(), trials_.end(), [&](const WeightTrial& x, const WeightTrial& y) {
    const auto place = [&](const WeightTrial& t) { return t.accepted && best_ && t.cause == best_->cause && t.detail == best_->detail ? 0 : t.accepted ? 1 : 2; };
    return place(x) != place(y) ? place(x) < place(y) : x.error_after < y.error_after;
  });
  out.trials = std::move(trials_);
  return out;
}

}  // namespace search

class WeightSearch::Impl {
 public:
  Impl(const WeightPairs& pairs, ThreadPool& pool) : pairs_(pairs), pool_(pool) {}

  WeightExplanation Explain(size_t pair, const StorageJudgement* judged) {
    const search::Subject subject{pairs_, pair, judged, pool_};
    search::Trials trials(subject);
    if (judged == nullptr) {
      search::TryTransposed(subject, trials);
      search::TryOtherTensors(subject, trials);
      return trials.Finish();
    }
    search::TryUniform(subject, trials);
    if (trials.best_rank() == 0) return trials.Finish();
    if (!judged->diff.has_nonfinite_difference()) TryFinite(subject, trials);
    if (!trials.accepted()) search::TryDamage(subject, trials);
    return trials.Finish();
  }

 private:
  static void TryFinite(const search::Subject& subject, search::Trials& trials) {
    search::TryOffsets(subject, trials);
    search::TryOtherTensors(subject, trials);
    search::TryTransposed(subject, trials);
    // Few places: the rest is as it should be, so neither order nor scale of the whole is at fault.
    if (subject.judged->mean_explained && !trials.accepted()) search::TryDamage(subject, trials);
    // Many broken elements may be rows in another order after all.
    if (trials.accepted() && !trials.accepted_only("corrupt_values") && !trials.accepted_only("shifted_rows")) return;
    search::TryRowOrders(subject, trials);
    if (!trials.accepted()) search::TryScales(subject, trials);
    if (!trials.accepted()) search::TryCoarserTypes(subject, trials);
    if (!trials.accepted()) search::TryColumnOrders(subject, trials);
  }

  const WeightPairs& pairs_;
  ThreadPool& pool_;
};

WeightSearch::WeightSearch(const WeightPairs& pairs, ThreadPool& pool) : impl_(std::make_unique<Impl>(pairs, pool)) {}
WeightSearch::~WeightSearch() = default;
WeightExplanation WeightSearch::Explain(size_t pair, const StorageJudgement* judged) { return impl_->Explain(pair, judged); }

}  // namespace apr
