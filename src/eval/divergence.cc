// See divergence.h.
#include "eval/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "eval/log_softmax.h"
#include "eval/window_runner.h"
#include "model/model.h"

namespace apr {
namespace {

struct TokenResult {
  double kld = 0;
  double log_a = 0, log_b = 0;
  bool same_top = false;
};

// Collects the figures of the tokens.
class Collector {
 public:
  void Add(const TokenResult& t) {
    klds_.push_back(t.kld);
    kld_.Add(t.kld);
    const double delta = 100 * (std::exp(t.log_b) - std::exp(t.log_a));
    deltas_.push_back(delta);
    delta_.Add(delta);
    square_.Add(delta * delta);
    same_ += t.same_top ? 1 : 0;
    nll_.Add(-t.log_a, -t.log_b);
  }
  int64_t count() const { return kld_.count(); }

  Divergence Finish() {
    Divergence out;
    out.num_tokens = count();
    const auto n = static_cast<double>(count());
    out.kld = Distribution(klds_, kld_);
    out.delta_p = Distribution(deltas_, delta_);
    out.rms_delta_p = std::sqrt(square_.mean());
    // d sqrt(m) = dm / (2 sqrt(m)).
    out.rms_delta_p_error = out.rms_delta_p > 0 ? square_.standard_error() / (2 * out.rms_delta_p) : 0;
    out.top1 = static_cast<double>(same_) / n;
    out.top1_error = n > 1 ? std::sqrt(out.top1 * (1 - out.top1) / (n - 1)) : 0;
    out.ppl_a = std::exp(nll_.a().mean());
    out.ppl_b = std::exp(nll_.b().mean());
    out.ppl_a_error = out.ppl_a * nll_.a().standard_error();
    out.ppl_b_error = out.ppl_b * nll_.b().standard_error();
    out.log_ratio = nll_.difference().mean();
    out.log_ratio_error = nll_.difference().standard_error();
    out.correlation = nll_.correlation();
    return out;
  }

 private:
  static TokenDistribution Distribution(std::vector<double>& values, const Moments& moments) {
    std::ranges::sort(values);
    return {std::move(values), moments.mean(), moments.standard_error()};
  }
  std::vector<double> klds_, deltas_;
  Moments kld_, delta_, square_;
  PairedMoments nll_;
  int64_t same_ = 0;
};

// The softmaxes that one thread works with.
struct Rows {
  LogSoftmax a, b;
};

void CompareBlocks(const WindowRunner::Block& a, const WindowRunner::Block& b, std::span<const int32_t> ids, ThreadPool& pool,
                   std::vector<Rows>& rows, Collector& out) {
  APR_CHECK(a.first == b.first && a.logits.shape() == b.logits.shape());
  const int64_t count = a.logits.view().rows();
  std::vector<TokenResult> results(static_cast<size_t>(count));
  pool.ParallelFor(count, 1, [&](int64_t begin, int64_t end, int thread) {
    Rows& row = rows[static_cast<size_t>(thread)];
    for (int64_t r = begin; r < end; ++r) {
      row.a.Load(a.logits.view(), r);
      row.b.Load(b.logits.view(), r);
      const int32_t id = ids[static_cast<size_t>(a.first + r)];
      results[static_cast<size_t>(r)] = {row.a.DivergenceTo(row.b), row.a.LogProbability(id), row.b.LogProbability(id),
                                         row.a.best() == row.b.best()};
    }
  });
  for (const TokenResult& t : results) out.Add(t);
}

}  // namespace

Json TokenDistribution::ToJson() const {
  Json out = {{"mean", JsonNumber(mean)}, {"error", JsonNumber(error)}, {"min", JsonNumber(sorted.front())}};
  constexpr std::pair<const char*, double> kPercentiles[] = {{"p1", 1},   {"p5", 5},   {"p10", 10}, {"median", 50},
                                                             {"p90", 90}, {"p95", 95}, {"p99", 99}, {"p99_9", 99.9}};
  for (const auto& [name, percent] : kPercentiles) out[name] = JsonNumber(Percentile(sorted, percent));
  out["max"] = JsonNumber(sorted.back());
  return out;
}

Json Divergence::ToJson() const {
  const double ratio = std::exp(log_ratio);
  return {{"num_tokens", num_tokens},
          {"kld", kld.ToJson()},
          {"top1", {{"agreement", JsonNumber(top1)}, {"error", JsonNumber(top1_error)}}},
          {"rms_delta_p_percent", JsonNumber(rms_delta_p)},
          {"rms_delta_p_percent_error", JsonNumber(rms_delta_p_error)},
          {"delta_p_percent", delta_p.ToJson()},
          {"ppl",
           {{"a", JsonNumber(ppl_a)},
            {"a_error", JsonNumber(ppl_a_error)},
            {"b", JsonNumber(ppl_b)},
            {"b_error", JsonNumber(ppl_b_error)},
            {"ratio", JsonNumber(ratio)},
            {"ratio_error", JsonNumber(ratio * log_ratio_error)},
            {"log_ratio", JsonNumber(log_ratio)},
            {"log_ratio_error", JsonNumber(log_ratio_error)},
            {"correlation", JsonNumber(correlation)}}}};
}

Divergence Diverge(Session& a, Session& b, std::span<const int32_t> ids, const WindowPlan& plan, const RunHooks& hooks) {
  const int64_t vocab_a = a.model().config().vocab_size;
  const int64_t vocab_b = b.model().config().vocab_size;
  if (vocab_a != vocab_b) {
    throw Error(ErrorCode::kValidationFailed,
                fmt::format("the vocabularies have {} and {} tokens: their distributions cannot be compared", vocab_a, vocab_b));
  }
  ThreadPool pool(a.executor().threads());
  std::vector<Rows> rows(static_cast<size_t>(pool.threads()));
  WindowRunner run_a(a, ids, plan.first_id);
  WindowRunner run_b(b, ids, plan.first_id);
  const RunHooks quiet{.progress = nullptr, .cancelled = hooks.cancelled};  // tokens are counted once
  Collector collector;
  for (const EvalWindow& window : plan.windows) {
    run_a.Begin(window);
    run_b.Begin(window);
    while (true) {
      const auto block_a = run_a.Next(quiet);
      const auto block_b = run_b.Next(hooks);
      if (!block_a) break;
      CompareBlocks(*block_a, *block_b, ids, pool, rows, collector);
    }
  }
  return collector.Finish();
}

}  // namespace apr
