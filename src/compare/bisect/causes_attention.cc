// Causes in attention: scale, soft cap, window, mask, heads read by the wrong group, keys and values of an older state.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compare/bisect/attention_pieces.h"
#include "compare/bisect/diagnose.h"
#include "op/attention/attention.h"

namespace apr::bisect {
namespace {

class AttentionCauses {
 public:
  AttentionCauses(Diagnosis& d, const Node& node) : d_(d), node_(node), a_(node.As<AttentionAttributes>()), config_(d.model().config) {}

  void Run() {
    const std::string& stage = d_.stage().name;
    const bool scores = stage == "attn_scores", softmax = stage == "attn_softmax";
    if (!softmax) Heads();
    if (!d_.explained() && !softmax) ScaleAndCap();
    if (!d_.explained() && !scores) MaskAndWindow();
    if (!d_.explained()) Stale(scores);
  }

 private:
  void TryConfig(Hypothesis h, const std::function<void(ModelConfig&)>& change) {
    const auto variation = d_.WithConfig(change);
    if (!variation) return;
    h.variation = *variation;
    d_.Try(std::move(h));
  }

  void ScaleAndCap() {
    const Hypothesis cap{.name = "attention_softcap", .key = "attn_logit_softcapping", .fix = "give B the soft cap of A", .rank = 1};
    if (a_.softcap != 0) {
      Hypothesis none = cap;
      none.detail = fmt::format("cap {} -> none", Shortest(a_.softcap));
      none.a = a_.softcap;
      none.b = 0;
      none.rank = 0;
      TryConfig(none, [](ModelConfig& c) { c.attention_softcap = 0; });
    }
    Hypothesis scale{.name = "attention_scale", .detail = "scale", .key = "attention_scale", .fix = "multiply the scores by A's scale", .rank = 1};
    if (config_.attention_scale_by_layer) {
      Hypothesis flat = scale;
      flat.detail = "the scale is not divided by the layer's number";
      flat.a = a_.scale;
      flat.b = config_.attention_scale;
      flat.key = "scale_attn_by_inverse_layer_idx";
      TryConfig(flat, [](ModelConfig& c) { c.attention_scale_by_layer = false; });
    }
    d_.Solve(scale, config_.attention_scale * 1e-3, config_.attention_scale * 1e3, [](ModelConfig& c, double x) { c.attention_scale = x; },
             config_.attention_scale);
    Hypothesis other = cap;
    other.detail = "cap";
    d_.Solve(other, 0.05, 1e4, [](ModelConfig& c, double x) { c.attention_softcap = x; }, a_.softcap);
  }

  void Heads() {
    if (a_.kv_heads == a_.heads || a_.kv_heads == 1) return;
    Hypothesis h{.name = "kv_head_mapping", .detail = "query head h reads key/value head h mod kv_heads", .a = "h / group", .b = "h % kv_heads",
                 .key = "num_key_value_heads", .fix = "let query head h read key/value head h / (heads / kv_heads)", .rank = 1, .variation = d_.base()};
    h.variation.attention.interleaved_kv = true;
    d_.Try(h);
    for (int r = 1; r < a_.kv_heads; ++r) {
      h.variation = d_.base();
      h.variation.attention.kv_rotation = r;
      h.detail = fmt::format("query heads read key/value heads {} too far", r);
      h.b = fmt::format("h / group + {}", r);
      d_.Try(h);
    }
  }

  void MaskAndWindow() {
    const int layer = node_.layer;
    const auto window = [&](int64_t size, int rank) {
      if (size == a_.window) return;
      TryConfig({.name = "sliding_window", .detail = fmt::format("window {} -> {}", a_.window, size), .a = a_.window, .b = size, .key = "sliding_window",
                 .fix = "give this layer the window of A", .rank = rank},
                [&](ModelConfig& c) { c.layers[static_cast<size_t>(layer)].window = size; });
    };
    window(0, 0);
    for (const LayerSpec& other : config_.layers) window(other.window, 0);
    const int64_t tokens = d_.evaluator().tokens();
    // The first wrong position is where the narrower of two windows first cuts a key off.
    const int64_t first = d_.before().position;
    if (!d_.explained() && first > 0) {
      for (int64_t size = std::max<int64_t>(1, first - 2); size <= std::min(first + 2, tokens); ++size) window(size, 1);
    }
    for (int64_t size = 1; !d_.explained() && size < std::min<int64_t>(tokens, 4096); ++size) window(size, 2);
    Hypothesis mask{.name = "causal_mask", .detail = "nothing is masked", .a = "causal", .b = "none", .fix = "mask keys behind the query", .rank = 1,
                    .variation = d_.base()};
    mask.variation.attention.no_mask = true;
    d_.Try(mask);
    if (a_.window > 0) {  // neither mask nor window
      if (auto open = d_.WithConfig([&](ModelConfig& c) { c.layers[static_cast<size_t>(layer)].window = 0; })) {
        mask.variation = std::move(*open);
        mask.variation.attention.no_mask = true;
        d_.Try(mask);
      }
    }
    for (const int shift : {1, -1, 2, -2, 3, -3}) {
      mask.detail = fmt::format("keys up to position {:+} are seen", shift);
      mask.b = fmt::format("{:+}", shift);
      mask.variation = d_.base();
      mask.variation.attention.mask_shift = shift;
      d_.Try(mask);
    }
  }

  // Rows of keys (values) that are those of another position, or of none.
  void Stale(bool scores) {
    const ValueId cached = node_.inputs[scores ? 1 : 2];
    if (d_.stage().name == "attn_softmax") return;
    const auto kept = d_.evaluator().ValueBefore(d_.base(), cached, d_.index());
    const int64_t tokens = d_.evaluator().tokens();
    if (!kept || tokens < 2) return;
    const int64_t width = static_cast<int64_t>(kept->size()) / tokens;
    std::vector<int64_t> source(static_cast<size_t>(tokens));
    for (const int shift : {-1, 1}) {
      for (int64_t s = 0; s < tokens; ++s) source[static_cast<size_t>(s)] = std::clamp<int64_t>(s + shift, 0, tokens - 1);
      TrySources(scores, *kept, width, source, fmt::format("cached rows are those of position {:+}", shift), 2);
    }
    if (!d_.explained()) SearchSources(scores, *kept, width);
  }

  // Output and error if row s of the cache is row source[s], -1: zeros.
  static std::vector<double> Gathered(const std::vector<double>& kept, int64_t width, const std::vector<int64_t>& source) {
    std::vector<double> out(kept.size());
    for (size_t s = 0; s < source.size(); ++s) {
      if (source[s] < 0) continue;
      std::copy_n(kept.begin() + source[s] * width, width, out.begin() + static_cast<int64_t>(s) * width);
    }
    return out;
  }

  // Greedy, one position after the other: a key that makes its column of scores right; a value that lowers the error.
  void SearchSources(bool scores, const std::vector<double>& kept, int64_t width) {
    const int64_t tokens = d_.evaluator().tokens();
    if (tokens > 64) return;
    std::vector<int64_t> source(static_cast<size_t>(tokens));
    for (int64_t s = 0; s < tokens; ++s) source[static_cast<size_t>(s)] = s;
    double error = SourceError(scores, kept, width, source);
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t s = 0; s < tokens; ++s) {
        const int64_t old = source[static_cast<size_t>(s)];
        int64_t best = old;
        for (int64_t other = -1; other < tokens; ++other) {
          source[static_cast<size_t>(s)] = other;
          const double e = SourceError(scores, kept, width, source);
          if (e < 0.98 * error) {
            error = e;
            best = other;
          }
        }
        source[static_cast<size_t>(s)] = best;
      }
    }
    int64_t changed = 0, first = -1;
    for (int64_t s = 0; s < tokens; ++s) {
      if (source[static_cast<size_t>(s)] == s) continue;
      ++changed;
      if (first < 0) first = s;
    }
    if (changed == 0) return;
    TrySources(scores, kept, width, source, fmt::format("cached {} of {} positions are not their own, first position {}", scores ? "keys" : "values", changed, first), 3);
  }

  Variation Twisted(bool scores, const std::vector<double>& kept, int64_t width, const std::vector<int64_t>& source) const {
    Variation v = d_.base();
    (scores ? v.attention.keys : v.attention.values) = std::make_shared<const std::vector<double>>(Gathered(kept, width, source));
    v.attention.replaced_layer = node_.layer;
    return v;
  }
  double SourceError(bool scores, const std::vector<double>& kept, int64_t width, const std::vector<int64_t>& source) {
    return d_.ErrorUnder(Twisted(scores, kept, width, source));
  }
  void TrySources(bool scores, const std::vector<double>& kept, int64_t width, const std::vector<int64_t>& source, const std::string& detail, int rank) {
    d_.Try({.name = "stale_cache", .detail = detail, .a = nullptr, .b = nullptr, .fix = "rebuild the key/value cache for this sequence", .rank = rank,
            .variation = Twisted(scores, kept, width, source)});
  }

  Diagnosis& d_;
  const Node& node_;
  const AttentionAttributes& a_;
  const ModelConfig& config_;
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
    Hypothesis h{.name = "stale_cache", .detail = detail, .a = nullptr, .b = nullptr, .fix = "rebuild the key/value cache for this sequence", .rank = foreign > 0 ? 6 : 2,
                 .variation = d_.base()};
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
  static constexpr int64_t kEmpty = -1, kForeign = -2;
  static constexpr double kSame = 1e-2;      // relative distance of two rows that are one

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

void TryAttentionCauses(Diagnosis& d) {
  if (d.stage().name == "k_post_rope" && d.stage().parts.size() == 1 && !d.cone().empty()) {
    StaleKeys(d).Run();
    return;
  }
  for (const int index : d.cone()) {
    const Node& node = d.graph().nodes[static_cast<size_t>(index)];
    if (node.op == &AttentionOp()) {
      AttentionCauses(d, node).Run();
      return;
    }
  }
}

}  // namespace apr::bisect
