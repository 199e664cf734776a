// See perplexity.h.
#include "eval/perplexity.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/thread_pool.h"
#include "eval/log_softmax.h"
#include "eval/moments.h"
#include "eval/window_runner.h"

namespace apr {
namespace {

// Log-probabilities of the tokens that a block of logits predicts.
std::vector<double> ScoreBlock(const WindowRunner::Block& block, std::span<const int32_t> ids, ThreadPool& pool,
                               std::vector<LogSoftmax>& rows) {
  const TensorView logits = block.logits.view();
  std::vector<double> out(static_cast<size_t>(logits.rows()));
  pool.ParallelFor(logits.rows(), 1, [&](int64_t begin, int64_t end, int thread) {
    LogSoftmax& row = rows[static_cast<size_t>(thread)];
    for (int64_t r = begin; r < end; ++r) {
      row.Load(logits, r);
      out[static_cast<size_t>(r)] = row.LogProbability(ids[static_cast<size_t>(block.first + r)]);
    }
  });
  return out;
}

}  // namespace

PerplexityResult Perplexity(Session& session, std::span<const int32_t> ids, const WindowPlan& plan, const RunHooks& hooks,
                            std::vector<double>* log_probabilities) {
  ThreadPool pool(session.executor().threads());
  std::vector<LogSoftmax> rows(static_cast<size_t>(pool.threads()));
  WindowRunner runner(session, ids, plan.first_id);
  Moments tokens;
  double sum = 0;
  double weight = 0;
  for (const EvalWindow& window : plan.windows) {
    Moments own;
    runner.Begin(window);
    while (const auto block = runner.Next(hooks)) {
      for (const double p : ScoreBlock(*block, ids, pool, rows)) {
        own.Add(-p);
        tokens.Add(-p);
        if (log_probabilities != nullptr) log_probabilities->push_back(p);
      }
    }
    sum += own.mean() * window.weight;
    weight += window.weight;
  }
  PerplexityResult out;
  out.mean_nll = sum / weight;
  out.ppl = std::exp(out.mean_nll);
  out.nll_error = tokens.standard_error();
  out.token_mean_nll = tokens.mean();
  out.num_tokens = tokens.count();
  return out;
}

PerplexityResult PerplexityOf(std::span<const double> log_probabilities) {
  if (log_probabilities.empty()) throw Error(ErrorCode::kValidationFailed, "there are no log-probabilities");
  Moments tokens;
  for (size_t i = 0; i < log_probabilities.size(); ++i) {
    const double p = log_probabilities[i];
    if (!std::isfinite(p) || p > 0) {
      throw Error(ErrorCode::kValidationFailed, fmt::format("element {}: {} is no log-probability", i, p));
    }
    tokens.Add(-p);
  }
  return {.ppl = std::exp(tokens.mean()),
          .mean_nll = tokens.mean(),
          .nll_error = tokens.standard_error(),
          .token_mean_nll = tokens.mean(),
          .num_tokens = tokens.count()};
}

std::vector<double> ReadLogProbabilities(const std::string& path) {
  const auto file = MappedFile::Open(path);
  const Json json = ParseJson(AsText(file->bytes()), path);
  if (!json.is_array()) throw Error(ErrorCode::kInvalidFormat, "is not a JSON array", {.file = path, .offset = 0});
  std::vector<double> out;
  for (const Json& value : json) {
    if (!value.is_number()) {
      throw Error(ErrorCode::kInvalidFormat, fmt::format("element {} is not a number", out.size()), {.file = path});
    }
    out.push_back(value.get<double>());
  }
  return out;
}

}  // namespace apr
