// Report::ToText: what a person reads in a terminal.
#include <fmt/format.h>

#include "compare/bisect/report.h"

namespace apr::bisect {
namespace {

std::string PlaceText(const Place& p) {
  std::string out = PhaseName(p.phase);
  if (p.layer) out += fmt::format(", layer {}", *p.layer);
  if (!p.stage.empty()) out += ", " + p.stage;
  if (!p.tensor.empty()) out += ", " + p.tensor;
  if (!p.key.empty()) out += ", " + p.key;
  if (p.position) out += fmt::format(", position {}", *p.position);
  if (p.error && p.floor) out += fmt::format(": error {:.3g}, floor {:.3g}", *p.error, *p.floor);
  return out;
}

}  // namespace

std::string Report::ToText() const {
  std::string out = fmt::format("{}{}\n", VerdictName(verdict), reason.empty() ? "" : ": " + reason);
  for (const Finding& finding : findings) {
    out += fmt::format("  {}{}\n", PlaceText(finding.first), finding.no_effect ? " (no effect)" : "");
    if (!finding.first.note.empty()) out += fmt::format("    {}\n", finding.first.note);
    if (finding.cause) out += fmt::format("    cause {}: {}\n", finding.cause->name, finding.cause->evidence);
    if (finding.cause && !finding.cause->fix.empty()) out += fmt::format("    fix: {}\n", finding.cause->fix);
  }
  out += fmt::format("compared: {} tensors, {} settings, {} stages, {} positions, {} texts\n", coverage.tensors_compared,
                     coverage.config_compared, coverage.stages_compared, coverage.positions, coverage.texts);
  for (const std::string& note : coverage.notes) out += fmt::format("note: {}\n", note);
  return out;
}

}  // namespace apr::bisect
