// Causes in the key/value cache: rows of another position, of none, or of another sequence.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compare/bisect/attention_pieces.h"
#include "compare/bisect/diagnose.h"
#include "op/attention/attention.h"

namespace apr::bisect {
namespace {

constexpr int64_t kEmpty = -1, kForeign = -2;  // where a row of the cache is from, if from no position
constexpr const char* kFix = "rebuild the key/value cache for this sequence";

// x of the normal equations n x = b of a least-squares problem; n is [size, size] and positive, b [size, columns]. A
// ridge of 1e-13 of the largest diagonal entry keeps what is not determined small.
std::vector<double> SolveNormal(std::vector<double> n, std::vector<double> b, size_t size, size_t columns) {
  double largest = 0;
  for (size_t i = 0; i < size; ++i) largest = std::max(largest, n[i * size + i]);
  for (size_t i = 0; i < size; ++i) n[i * size + i] += 1e-13 * largest + 1e-300;
  for (size_t j = 0; j < size; ++j) {  // Cholesky, in place
    for (size_t k = 0; k < j; ++k) n[j * size + j] -= n[j * size + k] * n[j * size + k];
    n[j * size + j] = std::sqrt(std::max(n[j * size + j], 1e-300));
    for (size_t i = j + 1; i < size; ++i) {
      for (size_t k = 0; k < j; ++k) n[i * size + j] -= n[i * size + k] * n[j * size + k];
      n[i * size + j] /= n[j * size + j];
    }
  }
  for (size_t c = 0; c < columns; ++c) {
    for (size_t i = 0; i < size; ++i) {
      for (size_t k = 0; k < i; ++k) b[i * columns + c] -= n[i * size + k] * b[k * columns + c];
      b[i * columns + c] /= n[i * size + i];
    }
    for (size_t i = size; i-- > 0;) {
      for (size_t k = i + 1; k < size; ++k) b[i * columns + c] -= n[k * size + i] * b[k * columns + c];
      b[i * columns + c] /= n[i * size + i];
    }
  }
  return b;
}

// Solves for what the cache really held, from the scores (keys) or the result (values), and says of each wrong row whose it is.
class StaleRows {
 public:
  StaleRows(Diagnosis& d, const Node& node) : d_(d), node_(node), a_(node.As<AttentionAttributes>()), tokens_(d.evaluator().tokens()) {}

  void Run() {
    scores_ = d_.stage().name == "attn_scores";
    const auto kept = d_.evaluator().ValueBefore(d_.base(), node_.inputs[scores_ ? 1 : 2], d_.index());
    if (!kept || tokens_ < 2) return;
    kept_ = *kept;
    width_ = static_cast<int64_t>(kept_.size()) / tokens_;
    for (const int shift : {-1, 1}) {
      std::vector<double> rows(kept_.size());
      for (int64_t s = 0; s < tokens_; ++s) std::copy_n(Row(std::clamp<int64_t>(s + shift, 0, tokens_ - 1)), width_, rows.begin() + s * width_);
      Try(std::move(rows), fmt::format("cached rows are those of position {:+}", shift), 2);
    }
    if (d_.explained() || tokens_ > kMostTokens) return;
    const auto made = d_.evaluator().Evaluate(d_.base(), d_.index());
    const RecordedStage* recorded = d_.evaluator().run().Find(d_.stage().Path());
    if (!made || recorded == nullptr || recorded->values.size() != made->values.size()) return;
    expected_ = made->values;
    recorded_ = &recorded->values;
    held_ = kept_;
    if (scores_ ? !SolveKeys() : !SolveValues()) return;
    Classify();
  }

 private:
  static constexpr int64_t kMostTokens = 256;
  static constexpr double kBeyond = 3;       // times the floor: a row or column is wrong
  static constexpr double kSame = 0.03;      // relative distance of two rows that are one

  const double* Row(int64_t s) const { return kept_.data() + s * width_; }

  void Try(std::vector<double> rows, const std::string& detail, int rank) {
    Variation v = d_.base();
    (scores_ ? v.attention.keys : v.attention.values) = std::make_shared<const std::vector<double>>(std::move(rows));
    v.attention.replaced_layer = node_.layer;
    d_.Try({.name = "stale_cache", .detail = detail, .a = nullptr, .b = nullptr, .fix = kFix, .rank = rank, .variation = std::move(v)});
  }

  // --- Keys: column s of the scores is wrong where key s is ---

  double ColumnError(int64_t s, int64_t other) const {
    double sum = 0;
    int64_t count = 0;
    for (int64_t h = 0; h < a_.heads; ++h) {
      for (int64_t t = s; t < tokens_; ++t, ++count) {
        const auto row = static_cast<size_t>((h * tokens_ + t) * tokens_);
        const double difference = (*recorded_)[row + static_cast<size_t>(s)] - (other == kEmpty ? 0 : expected_[row + static_cast<size_t>(other)]);
        sum += difference * difference;
      }
    }
    return std::sqrt(sum / static_cast<double>(std::max<int64_t>(count, 1)));
  }

  bool SolveKeys() {
    double squares = 0;
    int64_t count = 0;
    for (int64_t h = 0; h < a_.heads; ++h) {
      for (int64_t t = 0; t < tokens_; ++t) {
        for (int64_t s = 0; s <= t; ++s, ++count) squares += std::pow((*recorded_)[static_cast<size_t>((h * tokens_ + t) * tokens_ + s)], 2);
      }
    }
    const double size = std::sqrt(squares / static_cast<double>(count));
    if (!std::isfinite(size)) return false;
    const auto q = d_.evaluator().ValueBefore(d_.base(), node_.inputs[0], d_.index());
    for (int64_t s = 0; s < tokens_; ++s) {
      if (ColumnError(s, s) <= kBeyond * d_.before().floor * size) continue;
      wrong_.push_back(s);
      int64_t source = kForeign;
      for (int64_t other = kEmpty; other < tokens_ && source == kForeign; ++other) {
        if (other != s && ColumnError(s, other) <= std::max(kBeyond * d_.before().floor, 1e-4) * size) source = other;
      }
      source_.push_back(source);
      if (source == kForeign && q) SolveKey(s, *q);
    }
    return q && !wrong_.empty();
  }

  // The key that gives the column's scores best, for each of its heads.
  void SolveKey(int64_t s, const std::vector<double>& q) {
    const auto dim = static_cast<size_t>(a_.k_dim);
    const int64_t group = a_.heads / a_.kv_heads;
    for (int64_t g = 0; g < a_.kv_heads; ++g) {
      std::vector<double> normal(dim * dim), right(dim);
      for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        for (int64_t t = s; t < tokens_; ++t) {
          const double* x = q.data() + (t * a_.heads + h) * a_.k_dim;
          double score = (*recorded_)[static_cast<size_t>((h * tokens_ + t) * tokens_ + s)];
          if (a_.softcap != 0) score = a_.softcap * std::atanh(std::clamp(score / a_.softcap, -1 + 1e-15, 1 - 1e-15));
          for (size_t i = 0; i < dim; ++i) {
            right[i] += x[i] * score / a_.scale;
            for (size_t j = 0; j < dim; ++j) normal[i * dim + j] += x[i] * x[j];
          }
        }
      }
      const std::vector<double> key = SolveNormal(std::move(normal), std::move(right), dim, 1);
      std::copy(key.begin(), key.end(), held_.begin() + s * width_ + g * a_.k_dim);
    }
  }

  // --- Values: the first row of the result that is wrong is that of the first value that is ---

  bool SolveValues() {
    const Stage* softmax = d_.graph().FindStage("attn_softmax", d_.stage().layer);
    const RecordedStage* p = softmax == nullptr ? nullptr : d_.evaluator().run().Find(softmax->Path());
    if (p == nullptr || static_cast<int64_t>(p->values.size()) != a_.heads * tokens_ * tokens_) return false;
    for (int64_t t = 0; t < tokens_; ++t) {
      double squares = 0;
      const int64_t width = a_.heads * a_.v_dim;
      for (int64_t i = 0; i < width; ++i) squares += std::pow((*recorded_)[static_cast<size_t>(t * width + i)], 2);
      const double size = std::sqrt(squares / static_cast<double>(width));
      if (!std::isfinite(size)) return false;
      if (Residual(p->values, t) <= kBeyond * std::max(d_.before().floor, 1e-9) * size) continue;
      wrong_.push_back(t);
      Fit(p->values, t + 1);
    }
    if (wrong_.empty()) return false;
    Fit(p->values, tokens_);
    source_.assign(wrong_.size(), kForeign);
    for (size_t i = 0; i < wrong_.size(); ++i) source_[i] = SourceOf(wrong_[i]);
    return true;
  }

  // Root mean square of what row t of the result is off with the values found so far.
  double Residual(const std::vector<double>& p, int64_t t) const {
    double squares = 0;
    const int64_t group = a_.heads / a_.kv_heads;
    for (int64_t h = 0; h < a_.heads; ++h) {
      for (int64_t i = 0; i < a_.v_dim; ++i) {
        const auto at = static_cast<size_t>((t * a_.heads + h) * a_.v_dim + i);
        double off = (*recorded_)[at] - expected_[at];
        for (const int64_t s : wrong_) {
          const int64_t column = s * width_ + h / group * a_.v_dim + i;
          off -= p[static_cast<size_t>((h * tokens_ + t) * tokens_ + s)] * (held_[static_cast<size_t>(column)] - kept_[static_cast<size_t>(column)]);
        }
        squares += off * off;
      }
    }
    return std::sqrt(squares / static_cast<double>(a_.heads * a_.v_dim));
  }

  // The values of the wrong rows that give the first `rows` rows of the result best.
  void Fit(const std::vector<double>& p, int64_t rows) {
    const size_t size = wrong_.size(), dim = static_cast<size_t>(a_.v_dim);
    const int64_t group = a_.heads / a_.kv_heads;
    for (int64_t g = 0; g < a_.kv_heads; ++g) {
      std::vector<double> normal(size * size), right(size * dim);
      for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        for (int64_t t = wrong_.front(); t < rows; ++t) {
          const double* weight = p.data() + (h * tokens_ + t) * tokens_;
          const auto at = static_cast<size_t>((t * a_.heads + h) * a_.v_dim);
          for (size_t i = 0; i < size; ++i) {
            const double w = weight[wrong_[i]];
            if (w == 0) continue;
            for (size_t j = 0; j < size; ++j) normal[i * size + j] += w * weight[wrong_[j]];
            for (size_t c = 0; c < dim; ++c) right[i * dim + c] += w * ((*recorded_)[at + c] - expected_[at + c]);
          }
        }
      }
      const std::vector<double> found = SolveNormal(std::move(normal), std::move(right), size, dim);
      for (size_t i = 0; i < size; ++i) {
        for (size_t c = 0; c < dim; ++c) {
          const auto at = static_cast<size_t>(wrong_[i] * width_ + g * a_.v_dim) + c;
          held_[at] = kept_[at] + found[i * dim + c];
        }
      }
    }
  }

  int64_t SourceOf(int64_t s) const {
    const auto apart = [&](const double* other) {
      double sum = 0, total = 0;
      for (int64_t i = 0; i < width_; ++i) {
        const double is = held_[static_cast<size_t>(s * width_ + i)], should = other == nullptr ? 0 : other[i];
        sum += (is - should) * (is - should);
        total += std::pow(other == nullptr ? Row(s)[i] : should, 2);
      }
      return std::sqrt(sum / std::max(total, 1e-300));
    };
    if (apart(nullptr) < kSame) return kEmpty;
    for (int64_t other = 0; other < tokens_; ++other) {
      if (other != s && apart(Row(other)) < kSame) return other;
    }
    return kForeign;
  }

  // --- What was found ---

  void Classify() {
    int64_t moved = 0, empty = 0, foreign = 0;
    for (size_t i = 0; i < wrong_.size(); ++i) {
      const auto to = held_.begin() + wrong_[i] * width_;
      if (source_[i] == kEmpty) std::fill_n(to, width_, 0.0);
      else if (source_[i] >= 0) std::copy_n(Row(source_[i]), width_, to);
      moved += source_[i] >= 0;
      empty += source_[i] == kEmpty;
      foreign += source_[i] == kForeign;
    }
    if (foreign * 2 > tokens_) return;  // so many unknowns explain anything
    Try(held_, fmt::format("of {} cached {} {} are another position's, {} are empty, {} are those of no position of this sequence; first position {}", tokens_,
                           scores_ ? "keys" : "values", moved, empty, foreign, wrong_.front()),
        foreign > 0 ? 6 : 3);
  }

  Diagnosis& d_;
  const Node& node_;
  const AttentionAttributes& a_;
  int64_t tokens_;
  bool scores_ = false;
  int64_t width_ = 0;
  std::vector<double> kept_, held_;           // rows as they should be; as the cache held them
  std::vector<double> expected_;
  const std::vector<double>* recorded_ = nullptr;
  std::vector<int64_t> wrong_, source_;       // positions that are wrong, and whose rows they hold
};

// What attention receives as keys is in some rows not what was computed for them: another position's, none, or
// another sequence's. The last cannot be computed again; it is taken for that where the row is no rotation at all of
// its own key, q has no such row, and every other row is right.
class StaleKeys {
 public:
  explicit StaleKeys(Diagnosis& d) : d_(d) {}

  void Run() {
    const Judged& before = d_.before();
    const auto expected = d_.evaluator().Evaluate(d_.base(), d_.index());
    const RecordedStage* recorded = d_.evaluator().run().Find(d_.stage().Path());
    if (!expected || recorded == nullptr || expected->values.size() != recorded->values.size() || before.bad.size() != static_cast<size_t>(expected->rows)) return;
    expected_ = &expected->values;
    recorded_ = &recorded->values;
    width_ = expected->width;
    source_.resize(before.bad.size());
    int64_t foreign = 0, moved = 0, empty = 0;
    for (size_t t = 0; t < source_.size(); ++t) {
      source_[t] = before.bad[t] ? SourceOf(static_cast<int64_t>(t)) : static_cast<int64_t>(t);
      foreign += source_[t] == kForeign;
      empty += source_[t] == kEmpty;
      moved += source_[t] >= 0 && source_[t] != static_cast<int64_t>(t);
    }
    if (foreign > 0 && (before.bad_rows * 2 > before.rows || !QueriesAreRight() || !AreNoRotations())) return;
    std::string detail = fmt::format("of {} cached keys {} are another position's, {} are empty", source_.size(), moved, empty);
    if (foreign > 0) detail += fmt::format(", {} are no rotation of any key of this sequence", foreign);
    Hypothesis h{.name = "stale_cache", .detail = detail, .a = nullptr, .b = nullptr, .fix = kFix, .rank = foreign > 0 ? 6 : 2,
                 .variation = d_.base()};
    if (d_.cone().empty()) {  // nothing is computed between what was recorded and what attention receives
      d_.Accept(std::move(h), Gathered());
      return;
    }
    const std::string target = d_.graph().nodes[static_cast<size_t>(d_.cone().back())].name;
    h.variation.rules.emplace_back([target, source = source_, rows = *recorded_, width = width_](const NodeCall& call, std::vector<double>& out) {
      if (call.node.name != target || out.size() != rows.size()) return false;
      const std::vector<double> computed = out;
      for (size_t t = 0; t < source.size(); ++t) {
        const auto to = out.begin() + static_cast<int64_t>(t) * width;
        if (source[t] >= 0) std::copy_n(computed.begin() + source[t] * width, width, to);
        else if (source[t] == kEmpty) std::fill_n(to, width, 0.0);
        else std::copy_n(rows.begin() + static_cast<int64_t>(t) * width, width, to);
      }
      return true;
    });
    d_.Try(std::move(h));
  }

 private:
  static constexpr double kSame = 1e-2;      // relative distance of two rows that are one

  // The judgement where every row stands for its source: those found differ from it by no more than kSame.
  Judged Gathered() const {
    Judged after = d_.before();
    double sum = 0, total = 0;
    for (size_t t = 0; t < source_.size(); ++t) {
      if (source_[t] == kForeign) continue;
      for (int64_t i = 0; i < width_; ++i) {
        const double is = (*recorded_)[t * static_cast<size_t>(width_) + static_cast<size_t>(i)];
        const double should = source_[t] == kEmpty ? 0 : (*expected_)[static_cast<size_t>(source_[t] * width_ + i)];
        sum += (is - should) * (is - should);
        total += should * should;
      }
    }
    after.error = std::sqrt(sum / std::max(total, 1e-300));
    after.ratio = after.error / std::max(d_.before().floor, 1e-300);
    after.bad.assign(after.bad.size(), false);
    return after;
  }

  double Distance(int64_t t, const double* other) const {
    double sum = 0, total = 0;
    for (int64_t i = 0; i < width_; ++i) {
      const double v = (*recorded_)[static_cast<size_t>(t * width_ + i)];
      sum += (v - other[i]) * (v - other[i]);
      total += other[i] * other[i];
    }
    return std::sqrt(sum / std::max(total, 1e-300));
  }

  int64_t SourceOf(int64_t t) const {
    const auto row = recorded_->begin() + t * width_;
    if (std::all_of(row, row + width_, [](double v) { return v == 0; })) return kEmpty;
    int64_t best = kForeign;
    double nearest = kSame;
    for (int64_t s = 0; s < static_cast<int64_t>(source_.size()); ++s) {
      const double distance = Distance(t, expected_->data() + s * width_);
      if (distance >= nearest) continue;
      nearest = distance;
      best = s;
    }
    return best;
  }

  bool QueriesAreRight() const {
    const Stage* q = d_.graph().FindStage("q_post_rope", d_.stage().layer);
    if (q == nullptr) return false;
    const Judged judged = Judge(d_.evaluator(), d_.base(), static_cast<int>(q - d_.graph().stages.data()));
    return judged.compared && !judged.fails();
  }

  // A rotation keeps the length of a head.
  bool AreNoRotations() const {
    const int64_t heads = std::max<int64_t>(1, d_.model().config.num_kv_heads), dim = width_ / heads;
    for (size_t t = 0; t < source_.size(); ++t) {
      if (source_[t] != kForeign) continue;
      bool kept = true;
      for (int64_t h = 0; h < heads; ++h) {
        double x = 0, y = 0;
        for (int64_t i = 0; i < dim; ++i) {
          const auto at = static_cast<size_t>(static_cast<int64_t>(t) * width_ + h * dim + i);
          x += (*expected_)[at] * (*expected_)[at];
          y += (*recorded_)[at] * (*recorded_)[at];
        }
        kept &= std::abs(y - x) <= 2 * kSame * x;
      }
      if (kept) return false;
    }
    return true;
  }

  Diagnosis& d_;
  const std::vector<double>* expected_ = nullptr;
  const std::vector<double>* recorded_ = nullptr;
  int64_t width_ = 0;
  std::vector<int64_t> source_;
};

}  // namespace

void TryStaleKeys(Diagnosis& d) { StaleKeys(d).Run(); }

void TryStaleCache(Diagnosis& d, const Node& attention) { StaleRows(d, attention).Run(); }

}  // namespace apr::bisect
