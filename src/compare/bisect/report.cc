// See report.h.
#include "compare/bisect/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/json.h"

namespace apr::bisect {
namespace {

constexpr std::array kPhaseNames = {"file", "config", "tokens", "weights", "ops", "logits"};
constexpr std::array kVerdictNames = {"same", "rounding", "different", "inconclusive"};

Json TextOrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }
Json IntOrNull(const std::optional<int64_t>& value) { return value ? Json(*value) : Json(nullptr); }
Json RealOrNull(const std::optional<double>& value) { return value ? JsonNumber(*value) : Json(nullptr); }

Json PlaceJson(const Place& p) {
  return {{"phase", PhaseName(p.phase)},
          {"layer", IntOrNull(p.layer)},
          {"stage", TextOrNull(p.stage)},
          {"tensor", TextOrNull(p.tensor)},
          {"key", TextOrNull(p.key)},
          {"position", IntOrNull(p.position)},
          {"coordinate", p.coordinate.empty() ? Json(nullptr) : Json(p.coordinate)},
          {"a", RealOrNull(p.a)},
          {"b", RealOrNull(p.b)},
          {"error", RealOrNull(p.error)},
          {"floor", RealOrNull(p.floor)},
          {"note", TextOrNull(p.note)}};
}

Json CauseJson(const std::optional<Cause>& cause) {
  if (!cause) return nullptr;
  return {{"name", cause->name},
          {"a", cause->a},
          {"b", cause->b},
          {"evidence", TextOrNull(cause->evidence)},
          {"error_before", RealOrNull(cause->error_before)},
          {"error_after", RealOrNull(cause->error_after)},
          {"fix", TextOrNull(cause->fix)}};
}

Json TrialsJson(const std::vector<Trial>& trials) {
  Json out = Json::array();
  for (const Trial& t : trials) {
    out.push_back({{"name", t.name}, {"detail", TextOrNull(t.detail)}, {"error_after", JsonNumber(t.error_after)}, {"accepted", t.accepted}});
  }
  return out;
}

Json FurtherJson(const Finding& finding) {
  Json out = {{"first", PlaceJson(finding.first)}};
  if (finding.no_effect) out["effect"] = "none";
  if (!finding.no_effect || finding.cause) out["cause"] = CauseJson(finding.cause);
  return out;
}

Json SideJson(const SideSummary& s) {
  return {{"path", s.path},
          {"kind", TextOrNull(s.kind)},
          {"architecture", TextOrNull(s.architecture)},
          {"executor", TextOrNull(s.executor)},
          {"precision",
           {{"weights", TextOrNull(s.weights)}, {"activations", TextOrNull(s.activations)}, {"accumulate", TextOrNull(s.accumulate)}}}};
}

Json CoverageJson(const Coverage& c) {
  Json phases = Json::array();
  for (const Phase phase : c.phases) phases.push_back(PhaseName(phase));
  return {{"phases", phases},
          {"tensors", {{"compared", c.tensors_compared}, {"only_a", c.tensors_only_a}, {"only_b", c.tensors_only_b}}},
          {"config_keys", {{"compared", c.config_compared}, {"only_a", c.config_only_a}, {"only_b", c.config_only_b}}},
          {"stages", {{"compared", c.stages_compared}, {"absent", c.stages_absent}}},
          {"positions", c.positions},
          {"texts", c.texts},
          {"notes", c.notes}};
}

}  // namespace

const char* PhaseName(Phase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }

std::optional<Phase> PhaseFromName(std::string_view name) {
  for (size_t i = 0; i < kPhaseNames.size(); ++i) {
    if (name == kPhaseNames[i]) return static_cast<Phase>(i);
  }
  return std::nullopt;
}

const char* VerdictName(Verdict verdict) { return kVerdictNames[static_cast<size_t>(verdict)]; }

int VerdictExitCode(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSame:
    case Verdict::kRounding: return 0;
    case Verdict::kDifferent: return ExitCode(ErrorCode::kValidationFailed);
    case Verdict::kInconclusive: return ExitCode(ErrorCode::kInconclusive);
  }
  return ExitCode(ErrorCode::kInternal);
}

Json Report::ToJson() const {
  const bool different = verdict == Verdict::kDifferent && !findings.empty();
  Json also = Json::array();
  for (size_t i = different ? 1 : 0; i < findings.size(); ++i) also.push_back(FurtherJson(findings[i]));
  return {{"schema", "apr-bisect-v1"},
          {"a", SideJson(a)},
          {"b", SideJson(b)},
          {"verdict", VerdictName(verdict)},
          {"reason", TextOrNull(reason)},
          {"first", different ? PlaceJson(findings.front().first) : Json(nullptr)},
          {"cause", different ? CauseJson(findings.front().cause) : Json(nullptr)},
          {"causes", different ? TrialsJson(findings.front().trials) : Json::array()},
          {"also", also},
          {"coverage", CoverageJson(coverage)},
          {"ids", ids},
          {"seconds", seconds}};
}

}  // namespace apr::bisect
