// Report::ToText: about ten lines that say what differs, why, and what to do.
#include <fmt/format.h>

#include <cmath>

#include "base/json.h"
#include "compare/bisect/report.h"

namespace apr::bisect {
namespace {

constexpr size_t kMostFurther = 6;
constexpr size_t kMostNotes = 4;
constexpr size_t kMostCharacters = 200;  // of a value

std::string Line(const char* label, const std::string& text) { return text.empty() ? "" : fmt::format("  {:<9} {}\n", label, text); }

std::string Shortened(std::string text) {
  if (text.size() <= kMostCharacters) return text;
  size_t end = kMostCharacters;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string Value(const Json& value) { return value.is_null() ? "absent" : Shortened(value.is_string() ? value.get<std::string>() : DumpJson(value, -1)); }

std::string Digits(const std::optional<double>& value) { return value ? fmt::format("{:.6g}", *value) : "absent"; }

std::string SideText(const SideSummary& s) {
  std::string details;
  const auto add = [&](const std::string& text) {
    if (!text.empty()) details += (details.empty() ? "" : ", ") + text;
  };
  add(s.kind);
  add(s.architecture);
  add(s.executor.empty() ? "" : "run by " + s.executor);
  add(s.weights.empty() ? "" : s.weights + " weights");
  add(s.activations.empty() ? "" : s.activations + " activations");
  return s.path + (details.empty() ? "" : "  (" + details + ")");
}

std::string PlaceText(const Place& p) {
  std::string out;
  const auto add = [&](const std::string& text) { out += (out.empty() ? "" : ", ") + text; };
  add(fmt::format("{} phase", PhaseName(p.phase)));
  if (p.layer) add(fmt::format("layer {}", *p.layer));
  if (!p.stage.empty()) add("stage " + p.stage);
  if (!p.tensor.empty()) add(p.tensor);
  if (!p.key.empty()) add(p.key);
  if (p.position) add(fmt::format("position {}", *p.position));
  return out;
}

std::string ValuesText(const Place& p) {
  if (!p.a && !p.b) return "";
  std::string at;
  for (const int64_t c : p.coordinate) at += (at.empty() ? "" : ", ") + std::to_string(c);
  return fmt::format("{} in A, {} in B{}", Digits(p.a), Digits(p.b), at.empty() ? at : fmt::format(" at [{}]", at));
}

std::string ErrorText(const Place& p) {
  if (!p.error) return "";
  const std::string floor = p.floor ? fmt::format("; the number formats explain {:.2g}", *p.floor) : "";
  return fmt::format("{:.3g}{}", *p.error, floor);
}

std::string CauseText(const Cause& cause) {
  std::string out = cause.name;
  if (!cause.a.is_null() || !cause.b.is_null()) out += fmt::format(": {} in A, {} in B", Value(cause.a), Value(cause.b));
  if (cause.error_before && cause.error_after) out += fmt::format("; put right, the error falls from {:.2g} to {:.2g}", *cause.error_before, *cause.error_after);
  return out;
}

std::string Candidates(const Finding& finding) {
  std::string out = "not found";
  if (!finding.trials.empty()) out += fmt::format("; {} tried, nearest {} (error left {:.2g})", finding.trials.size(), finding.trials[0].name, finding.trials[0].error_after);
  return out;
}

std::string FirstText(const Finding& finding) {
  const Place& p = finding.first;
  std::string out = Line("first", PlaceText(p)) + Line("values", ValuesText(p)) + Line("error", ErrorText(p));
  const bool told = finding.cause && finding.cause->evidence.find(p.note) != std::string::npos;
  if (!told) out += Line("what", p.note);
  if (!finding.cause) return out + Line("cause", Candidates(finding));
  return out + Line("cause", CauseText(*finding.cause)) + Line("because", finding.cause->evidence) + Line("fix", finding.cause->fix);
}

std::string FurtherText(const Finding& finding) {
  std::string out = PlaceText(finding.first);
  if (finding.no_effect) return fmt::format("{}: {}no effect on any probe", out, finding.cause ? finding.cause->name + ", " : "");
  if (finding.cause) return out + ": " + CauseText(*finding.cause);
  return out + (finding.first.note.empty() ? "" : ": " + finding.first.note);
}

const char* Meaning(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSame: return "SAME: both compute the same";
    case Verdict::kRounding: return "ROUNDING: every difference is one that the number formats explain";
    case Verdict::kDifferent: return "DIFFERENT";
    case Verdict::kInconclusive: return "INCONCLUSIVE";
  }
  return "";
}

std::string CoverageText(const Coverage& c) {
  std::string phases;
  for (const Phase phase : c.phases) phases += fmt::format("{}{}", phases.empty() ? "" : " ", PhaseName(phase));
  return fmt::format("{} tensors, {} settings, {} stages, {} positions, {} texts ({})", c.tensors_compared, c.config_compared,
                     c.stages_compared, c.positions, c.texts, phases.empty() ? "no phase" : phases);
}

}  // namespace

std::string Report::ToText() const {
  std::string out = fmt::format("{}{}\n", Meaning(verdict), reason.empty() ? "" : ": " + reason);
  out += Line("A", SideText(a)) + Line("B", SideText(b));
  const bool different = verdict == Verdict::kDifferent && !findings.empty();
  if (different) out += FirstText(findings.front());
  const size_t from = different ? 1 : 0;
  for (size_t i = from; i < findings.size() && i < from + kMostFurther; ++i) out += Line(i == from ? "also" : "", FurtherText(findings[i]));
  if (findings.size() > from + kMostFurther) out += Line("", fmt::format("and {} more (--json lists them)", findings.size() - from - kMostFurther));
  out += Line("compared", fmt::format("{}, in {:.1f} s", CoverageText(coverage), seconds));
  for (size_t i = 0; i < coverage.notes.size() && i < kMostNotes; ++i) out += Line(i == 0 ? "not seen" : "", Shortened(coverage.notes[i]));
  if (coverage.notes.size() > kMostNotes) out += Line("", fmt::format("and {} more (--json lists them)", coverage.notes.size() - kMostNotes));
  return out;
}

}  // namespace apr::bisect
