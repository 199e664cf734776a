// See bisection.h: opening the sides, choosing probes, running the phases, deciding.
#include "compare/bisect/bisection.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/json.h"
#include "generate/chat_prompt.h"

namespace apr::bisect {
namespace {

constexpr Phase kAllPhases[] = {Phase::kFile, Phase::kConfig, Phase::kTokens, Phase::kWeights, Phase::kOps, Phase::kLogits};

void (*RunnerOf(Phase phase))(Bisection&) {
  switch (phase) {
    case Phase::kFile: return RunFilePhase;
    case Phase::kConfig: return RunConfigPhase;
    case Phase::kTokens: return RunTokensPhase;
    case Phase::kWeights: return RunWeightsPhase;
    case Phase::kOps: return RunOpsPhase;
    case Phase::kLogits: return nullptr;  // the last stage of the ops phase
  }
  return nullptr;
}

bool BeforeInData(const Finding& x, const Finding& y) {
  if (x.no_effect != y.no_effect) return !x.no_effect;
  return x.first.phase < y.first.phase;
}

void Decide(Bisection& b) {
  Report& r = b.report;
  std::stable_sort(r.findings.begin(), r.findings.end(), BeforeInData);
  if (b.has_difference()) {
    r.verdict = Verdict::kDifferent;
    return;
  }
  if (!b.inconclusive.empty()) {
    r.verdict = Verdict::kInconclusive;
    r.reason = b.inconclusive;
    return;
  }
  const Coverage& c = r.coverage;
  if (c.tensors_compared == 0 && c.stages_compared == 0 && c.texts == 0) {
    r.verdict = Verdict::kInconclusive;
    r.reason = "nothing that both sides have was compared";
    return;
  }
  r.verdict = b.rounding ? Verdict::kRounding : Verdict::kSame;
}

}  // namespace

bool Bisection::Wants(Phase phase) const {
  return options.phases.empty() || std::ranges::find(options.phases, phase) != options.phases.end();
}

bool Bisection::has_difference() const {
  return std::ranges::any_of(report.findings, [](const Finding& f) { return !f.no_effect; });
}

void Bisection::Covered(Phase phase) {
  std::vector<Phase>& phases = report.coverage.phases;
  if (std::ranges::find(phases, phase) == phases.end()) phases.push_back(phase);
}

Report Run(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  ThreadPool pool(options.threads > 0 ? options.threads : ThreadPool::HardwareThreads());
  Bisection b;
  b.options = options;
  b.pool = &pool;
  b.a = OpenSide(options.a);
  b.b = OpenSide(options.b);
  b.report.a = Summarize(b.a);
  b.report.b = Summarize(b.b);
  b.probes = ChooseProbes(b);
  for (const Phase phase : kAllPhases) {
    void (*run)(Bisection&) = RunnerOf(phase);
    if (run == nullptr) continue;
    const bool wanted = b.Wants(phase) || (phase == Phase::kOps && b.Wants(Phase::kLogits));
    if (!wanted) {
      b.Note(fmt::format("the {} phase was not asked for", PhaseName(phase)));
      continue;
    }
    run(b);
    if (b.stop) break;
  }
  Decide(b);
  b.report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::move(b.report);
}

}  // namespace apr::bisect
