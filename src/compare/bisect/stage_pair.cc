// See stage_pair.h.
#include "compare/bisect/stage_pair.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "compare/bisect/shown_model.h"
#include "compare/bisect/walk.h"
#include "compare/element_diff.h"
#include "compare/stage_diff.h"

namespace apr::bisect {
namespace {

// A stage may be this many times farther apart than what it was computed from, and than a rounding, before the
// op itself is suspected: products with unknown weights and softmax amplify.
constexpr double kGrowth = 12;
constexpr double kRoundings = 24;

struct ComparedStage {
  StageName name;
  ElementDiff diff;
  double error = 0;
  std::vector<int64_t> shape;
};

class StagePair {
 public:
  explicit StagePair(Bisection& b) : b_(b), a_run_(OpenRecordedRun(*b.a.stages)), b_run_(OpenRecordedRun(*b.b.stages)) {
    unit_ = std::max({FormatsOf(b.a.stages->manifest()).activations.unit, FormatsOf(b.b.stages->manifest()).activations.unit, 0x1p-24});
  }

  void Run() {
    if (!SameIds() || !Compare()) return;
    const bool differs = std::ranges::any_of(rows_, [](const ComparedStage& row) { return row.error > 0; });
    b_.rounding |= differs;
    Covered();
    if (!differs) return;
    const bool walked = WalkB();
    Origins(walked);
  }

 private:
  bool SameIds() {
    const auto& x = b_.a.stages->manifest().ids;
    const auto& y = b_.b.stages->manifest().ids;
    if (x.empty() || y.empty() || x == y) return true;
    b_.inconclusive = "the two runs had other token ids";
    return false;
  }

  bool Compare() {
    Coverage& c = b_.report.coverage;
    for (const std::string& name : a_run_->Names()) {
      const auto parsed = ParseStageName(name);
      if (!parsed) continue;
      if (!b_run_->Has(name)) {
        c.stages_absent.push_back(name);
        continue;
      }
      try {
        if (!CompareStage(name, *parsed)) return false;
      } catch (const Error& e) {
        c.stages_absent.push_back(name);
        b_.Note(fmt::format("{}: {}", name, e.what()));
        b_.inconclusive = fmt::format("a recorded stage cannot be read: {}", e.what());
      }
    }
    std::ranges::stable_sort(rows_, [](const ComparedStage& x, const ComparedStage& y) { return CausallyBefore(x.name, y.name); });
    if (rows_.empty() && b_.inconclusive.empty()) b_.inconclusive = "the two runs have no stage in common";
    return !rows_.empty();
  }

  bool CompareStage(const std::string& name, const StageName& parsed) {
    const RecordedStage* x = a_run_->Find(name);
    const RecordedStage* y = b_run_->Find(name);
    ComparedStage row{.name = parsed, .diff = {}, .error = 0, .shape = {x->shape.dims().begin(), x->shape.dims().end()}};
    if (x->values.size() != y->values.size()) {
      Finding f;
      f.first.phase = Phase::kOps;
      Name(parsed, f.first);
      f.first.note = fmt::format("{} values in A and {} in B: these are runs of two architectures or of other ids", x->values.size(), y->values.size());
      b_.Add(std::move(f));
      Covered();
      return false;
    }
    // Keys that no query sees are computed by some engines and left out by others.
    const bool scores = parsed.stage == "attn_scores" && x->shape.ndim() == 3;
    if (!scores) Accumulate(row.diff, std::span<const double>(x->values), std::span<const double>(y->values), 0);
    else {
      const int64_t tokens = x->shape[1];
      for (int64_t item = 0; item < x->shape[0] * tokens; ++item) {
        const auto at = static_cast<size_t>(item * tokens), n = static_cast<size_t>(item % tokens + 1);
        Accumulate(row.diff, std::span(x->values).subspan(at, n), std::span(y->values).subspan(at, n), static_cast<int64_t>(at));
      }
    }
    row.error = row.diff.is_identical() ? 0 : row.diff.relative_error();
    if (parsed.stage == "moe_router_indices") row.error = 0;  // near ties: what follows tells
    b_.report.scores.push_back({name, NAN, row.error, unit_ * kRoundings});
    rows_.push_back(std::move(row));
    return true;
  }

  static void Name(const StageName& name, Place& p) {
    if (name.layer != kWholeModel) p.layer = static_cast<int64_t>(name.layer);
    p.stage = name.stage;
  }

  void Covered() {
    Coverage& c = b_.report.coverage;
    c.stages_compared = static_cast<int64_t>(rows_.size());
    if (!rows_.empty() && !rows_[0].shape.empty()) c.positions = rows_[0].shape[rows_[0].shape.size() == 3 ? 1 : 0];
    b_.Covered(Phase::kOps);
  }

  std::vector<int32_t> IdsOrZeros() const {
    const auto& ids = b_.a.stages->manifest().ids.empty() ? b_.b.stages->manifest().ids : b_.a.stages->manifest().ids;
    if (!ids.empty()) return {ids.begin(), ids.end()};
    for (const ComparedStage& row : rows_) {
      if (row.shape.size() == 2) return std::vector<int32_t>(static_cast<size_t>(row.shape[0]), 0);
    }
    return {};
  }

  // The constants of A's run are read off it, then B's run is walked with them. False: neither could be done.
  bool WalkB() {
    const std::string architecture = b_.a.stages->manifest().architecture;
    const auto shown = ReadShownModel(*a_run_, architecture);
    const std::vector<int32_t> ids = IdsOrZeros();
    if (!shown || ids.empty()) return false;
    const auto base = BindWalkModel(shown->config, *shown->architecture, shown->slots, nullptr);
    Bisection scratch;
    scratch.options.causes = true;
    scratch.pool = b_.pool;
    Evaluator of_a(*a_run_, ids, FormatsOf(b_.a.stages->manifest()), *b_.pool);
    Walk read(scratch, of_a, shown->slots, base);
    read.Run();
    for (const Finding& f : scratch.report.findings) {
      // A does something there that its stages do not tell; the trusted side's own precision is no explanation.
      if (!f.cause || f.cause->name == "reduced_precision") unknown_.insert(f.first.stage);
    }
    Bisection found;
    found.options = b_.options;
    found.pool = b_.pool;
    RunFormats formats = FormatsOf(b_.b.stages->manifest());
    formats.activations.unit = std::max(formats.activations.unit, unit_);  // constants were read off A's values
    Evaluator of_b(*b_run_, ids, formats, *b_.pool);
    Walk judge(found, of_b, shown->slots, base, read.variations());
    judge.Run();
    for (Finding& f : found.report.findings) {
      if (unknown_.count(f.first.stage) > 0) continue;
      suspects_.push_back(std::move(f));
    }
    return true;
  }

  const ComparedStage* Find(uint32_t layer, const std::string& stage) const {
    for (const ComparedStage& row : rows_) {
      if (row.name.layer == layer && row.name.stage == stage) return &row;
    }
    return nullptr;
  }

  // Error of what a stage is computed from: the stages before it in the data flow.
  double InputError(size_t index) const {
    double out = 0;
    int seen = 0;
    for (size_t i = index; i-- > 0 && seen < 6;) {
      out = std::max(out, rows_[i].error);
      ++seen;
    }
    const uint32_t layer = rows_[index].name.layer;
    for (const char* stage : {"embedding", "post_attn_residual", "attn_norm", "ffn_norm"}) {
      const ComparedStage* row = Find(layer, stage);
      if (row != nullptr && row < &rows_[index]) out = std::max(out, row->error);
    }
    return out;
  }

  Finding Describe(const ComparedStage& row) const {
    Finding f;
    f.first.phase = row.name.stage == "lm_head" ? Phase::kLogits : Phase::kOps;
    Name(row.name, f.first);
    f.first.error = row.error;
    f.first.floor = unit_ * kRoundings;
    f.first.a = row.diff.a_at_max;
    f.first.b = row.diff.b_at_max;
    int64_t rest = row.diff.max_index;
    std::vector<int64_t> coordinate(row.shape.size());
    for (size_t i = row.shape.size(); rest >= 0 && i-- > 0;) {
      coordinate[i] = rest % row.shape[i];
      rest /= row.shape[i];
    }
    f.first.coordinate = coordinate;
    if (!coordinate.empty()) f.first.position = coordinate[coordinate.size() == 3 ? 1 : 0];
    f.first.note = "the two runs part here though what it is computed from agrees";
    return f;
  }

  // What the walk of B shows, and stages that part without it.
  void Origins(bool walked) {
    std::vector<Finding> all = std::move(suspects_);
    std::set<std::string> named;
    for (const Finding& f : all) named.insert(f.first.stage);
    for (size_t i = 0; i < rows_.size(); ++i) {
      const ComparedStage& row = rows_[i];
      const double before = InputError(i);
      const bool parts = !(row.error <= std::max(kRoundings * unit_, kGrowth * before)) || row.diff.has_nonfinite_difference();
      if (!parts) continue;
      const bool tells = walked && std::ranges::any_of(all, [&](const Finding& f) { return f.first.stage == row.name.stage; });
      if (!tells) all.push_back(Describe(row));
      break;
    }
    std::ranges::stable_sort(all, [](const Finding& x, const Finding& y) {
      const auto rank = [](const Finding& f) { return std::pair{f.first.layer.value_or(INT64_MAX), CausalRank(f.first.stage)}; };
      return rank(x) < rank(y);
    });
    for (Finding& f : all) b_.Add(std::move(f));
  }

  Bisection& b_;
  std::unique_ptr<RecordedRun> a_run_, b_run_;
  double unit_ = 0;
  std::vector<ComparedStage> rows_;
  std::set<std::string> unknown_;
  std::vector<Finding> suspects_;
};

}  // namespace

void CompareStageDirectories(Bisection& b) { StagePair(b).Run(); }

}  // namespace apr::bisect
