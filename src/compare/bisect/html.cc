// See html.h.
#include "compare/bisect/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/json.h"
#include "compare/diff_html.h"
#include "compare/stage_diff.h"
#include "format/stage_file.h"

namespace apr::bisect {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --bg: #fbfbfa; --fg: #1c2024; --soft: #5f6873; --line: #dcdfe3; --card: #ffffff;
  --ok: #18794e; --bad: #c62a2f; --warn: #915930; --mark: #14171a; --cell0: #e6f4ec; --cell1: #c4e8d1; --none: #eceef0; }
@media (prefers-color-scheme: dark) { :root { --bg: #111315; --fg: #e8eaed; --soft: #9aa3ad; --line: #2b3036; --card: #181b1e;
  --ok: #4cc38a; --bad: #ff6369; --warn: #f1a10d; --mark: #ffd5d5; --cell0: #12291e; --cell1: #1b4332; --none: #1d2125; } }
* { box-sizing: border-box; }
body { background: var(--bg); color: var(--fg); font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1.25rem 3rem; }
h1 { font-size: 1.05rem; margin: 0; color: var(--soft); font-weight: 600; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
.verdict { font-size: 1.6rem; font-weight: 650; margin: .1rem 0 .6rem; letter-spacing: -.01em; }
.ok { color: var(--ok); } .bad { color: var(--bad); } .warn { color: var(--warn); } .soft { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1.1rem; margin: .75rem 0; }
.card.bad-edge { border-left: 4px solid var(--bad); color: inherit; }
dl { display: grid; grid-template-columns: 7.5rem minmax(0, 1fr); gap: .3rem 1rem; margin: 0; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.cause { font-size: 1.1rem; font-weight: 650; } code { font: 13px/1.4 ui-monospace, monospace; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
table.list { width: 100%; } table.list th, table.list td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
table.list th { color: var(--soft); font-weight: 600; white-space: nowrap; } td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
table.heat td { padding: 0; border: 2px solid var(--bg); min-width: 30px; width: 30px; height: 22px; border-radius: 5px; }
table.heat td.none { background: var(--none); opacity: .45; }
table.heat th { padding: .1rem .5rem .1rem 0; border: 0; font-weight: 500; text-align: left; color: var(--soft); white-space: nowrap; }
table.heat th.v { writing-mode: vertical-rl; transform: rotate(180deg); padding: .4rem 0; text-align: left; }
table.heat td.first { outline: 3px solid var(--mark); outline-offset: -1px; position: relative; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.1rem; align-items: center; color: var(--soft); font-size: 13px; margin: .5rem 0; }
.legend i { display: inline-block; width: 22px; height: 14px; border-radius: 3px; margin-right: .35rem; vertical-align: -2px; }
)css";

std::string Number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return fmt::format("{:.4g}", value);
}
std::string Number(const std::optional<double>& value) { return value ? Number(*value) : "absent"; }

std::string Text(const Json& value) {
  std::string text = value.is_null() ? "absent" : value.is_string() ? value.get<std::string>() : DumpJson(value, -1);
  constexpr size_t kMost = 400;
  if (text.size() > kMost) {
    size_t end = kMost;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end) + "...";
  }
  return HtmlEscaped(text);
}

std::string Entry(const char* term, const std::string& html) { return html.empty() ? "" : fmt::format("<dt>{}</dt><dd>{}</dd>\n", term, html); }

std::string Coordinates(const std::vector<int64_t>& coordinate) {
  std::string out;
  for (const int64_t c : coordinate) out += (out.empty() ? "" : ", ") + std::to_string(c);
  return out.empty() ? out : fmt::format("[{}]", out);
}

std::string Where(const Place& p) {
  std::string out = fmt::format("{} phase", PhaseName(p.phase));
  if (p.layer) out += fmt::format(" &middot; layer {}", *p.layer);
  if (!p.stage.empty()) out += " &middot; stage <code>" + HtmlEscaped(p.stage) + "</code>";
  if (!p.tensor.empty()) out += " &middot; <code>" + HtmlEscaped(p.tensor) + "</code>";
  if (!p.key.empty()) out += " &middot; <code>" + HtmlEscaped(p.key) + "</code>";
  if (p.position) out += fmt::format(" &middot; position {}", *p.position);
  return out;
}

std::string Values(const Place& p) {
  if (!p.a && !p.b) return "";
  const std::string at = Coordinates(p.coordinate);
  return fmt::format("<b>{}</b> in A, <b>{}</b> in B{}", Number(p.a), Number(p.b), at.empty() ? "" : " at " + at);
}

std::string CauseEntries(const Cause& cause) {
  std::string out = Entry("Cause", fmt::format("<span class=\"cause\">{}</span>", HtmlEscaped(cause.name)));
  if (!cause.a.is_null() || !cause.b.is_null()) out += Entry("In A", Text(cause.a)) + Entry("In B", Text(cause.b));
  if (cause.error_before && cause.error_after)
    out += Entry("Put right", fmt::format("error {} &rarr; {}", Number(*cause.error_before), Number(*cause.error_after)));
  return out + Entry("Evidence", HtmlEscaped(cause.evidence)) + Entry("Fix", HtmlEscaped(cause.fix));
}

std::string FindingCard(const Finding& finding) {
  const Place& p = finding.first;
  std::string error = p.error ? Number(*p.error) : "";
  if (p.error && p.floor) error += fmt::format(" <span class=\"soft\">(the number formats explain {})</span>", Number(*p.floor));
  std::string body = Entry("Where", Where(p)) + Entry("Values", Values(p)) + Entry("Error", error);
  if (!finding.cause || finding.cause->evidence.find(p.note) == std::string::npos) body += Entry("What", HtmlEscaped(p.note));
  if (finding.cause) body += CauseEntries(*finding.cause);
  else if (!finding.no_effect) body += Entry("Cause", "not found: no hypothesis removes the difference");
  if (finding.no_effect) body += Entry("Effect", "none on any probe");
  return fmt::format("<div class=\"card{}\"><dl>{}</dl></div>\n", finding.no_effect ? "" : " bad-edge", body);
}

// Floor and below: calm; beyond it yellow to red at ten thousand times the floor.
std::string Colour(double error, double floor) {
  if (!(error < INFINITY)) return "#9b1c31";
  if (error == 0) return "var(--cell0)";
  const double decades = std::log10(error / std::max(floor, 1e-300));
  if (decades <= 0) return "var(--cell1)";
  return fmt::format("hsl({:.0f} 80% 50%)", 48 - 48 * std::min(1.0, decades / 4));
}

struct Map {
  std::vector<std::string> columns;                                     // stages in causal order
  std::map<uint32_t, std::map<std::string, const StageScore*>> cells;   // whole model last
};

Map MapOf(const std::vector<StageScore>& scores) {
  Map map;
  std::set<std::string> seen;
  for (const StageScore& score : scores) {
    const auto name = ParseStageName(score.name);
    if (!name) continue;
    map.cells[name->layer].emplace(name->stage, &score);
    if (seen.insert(name->stage).second) map.columns.push_back(name->stage);
  }
  std::ranges::stable_sort(map.columns, {}, [](const std::string& stage) { return CausalRank(stage); });
  return map;
}

std::string HeatMap(const Report& report) {
  const Map map = MapOf(report.scores);
  if (map.cells.empty()) return "";
  const Place* first = report.verdict == Verdict::kDifferent && !report.findings.empty() ? &report.findings.front().first : nullptr;
  std::string out = "<h2>Layers and stages</h2>\n<div class=\"legend\">";
  const std::pair<const char*, std::string> legend[] = {{"identical", "var(--cell0)"}, {"within the floor", "var(--cell1)"}, {"2 times the floor", Colour(2, 1)},
                                                         {"100 times", Colour(100, 1)}, {"10,000 times and more", Colour(1e4, 1)}, {"not compared", "var(--none)"}};
  for (const auto& [label, colour] : legend) out += fmt::format("<span><i style=\"background:{}\"></i>{}</span>", colour, label);
  out += "<span>Outlined: the first difference. Point at a cell for its numbers.</span></div>\n<div class=\"scroll\"><table class=\"heat\"><tr><th></th>";
  for (const std::string& column : map.columns) out += "<th class=\"v\">" + HtmlEscaped(column) + "</th>";
  out += "</tr>\n";
  for (const auto& [layer, row] : map.cells) {
    const bool whole = layer == kWholeModel;
    out += fmt::format("<tr><th>{}</th>", whole ? std::string("model") : fmt::format("layer {}", layer));
    for (const std::string& column : map.columns) {
      const auto it = row.find(column);
      if (it == row.end()) {
        out += "<td class=\"none\"></td>";
        continue;
      }
      const StageScore& score = *it->second;
      const bool marked = first != nullptr && first->stage == column && (whole ? !first->layer : first->layer == int64_t{layer});
      const std::string note = fmt::format("{}: error {} on its own inputs, {} carried along; floor {}", score.name, Number(score.error),
                                           std::isnan(score.propagated) ? "unknown" : Number(score.propagated), Number(score.floor));
      out += fmt::format("<td{} style=\"background:{}\" title=\"{}\"></td>", marked ? " class=\"first\"" : "", Colour(score.error, score.floor), HtmlEscaped(note));
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string Hypotheses(const Finding& finding) {
  if (finding.trials.empty()) return "";
  std::string out = "<h2>Hypotheses tried at the first difference</h2>\n<div class=\"scroll\"><table class=\"list\"><tr><th>hypothesis</th><th>what was changed</th><th>error left</th><th></th></tr>\n";
  for (const Trial& trial : finding.trials) {
    out += fmt::format("<tr><td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td class=\"{}\">{}</td></tr>\n", HtmlEscaped(trial.name),
                       HtmlEscaped(trial.detail), Number(trial.error_after), trial.accepted ? "ok" : "soft", trial.accepted ? "removes it" : "does not");
  }
  return out + "</table></div>\n";
}

std::string List(const std::vector<std::string>& items) {
  constexpr size_t kMost = 60;
  std::string out;
  for (size_t i = 0; i < items.size() && i < kMost; ++i) out += fmt::format("{}<code>{}</code>", i > 0 ? ", " : "", HtmlEscaped(items[i]));
  if (items.size() > kMost) out += fmt::format(" and {} more", items.size() - kMost);
  return out;
}

std::string CoverageHtml(const Report& report) {
  const Coverage& c = report.coverage;
  std::string phases, notes;
  for (const Phase phase : c.phases) phases += fmt::format("{}{}", phases.empty() ? "" : ", ", PhaseName(phase));
  for (const std::string& note : c.notes) notes += HtmlEscaped(note) + "<br>";
  std::string body = Entry("Phases", phases.empty() ? "none" : phases);
  body += Entry("Tensors", fmt::format("{} compared", c.tensors_compared)) + Entry("Only in A", List(c.tensors_only_a)) + Entry("Only in B", List(c.tensors_only_b));
  body += Entry("Settings", fmt::format("{} compared", c.config_compared)) + Entry("Only in A", List(c.config_only_a)) + Entry("Only in B", List(c.config_only_b));
  body += Entry("Stages", fmt::format("{} compared over {} positions", c.stages_compared, c.positions)) + Entry("Absent", List(c.stages_absent));
  body += Entry("Texts", fmt::format("{} tokenised or rendered by both", c.texts)) + Entry("Not seen", notes);
  return "<h2>What was looked at</h2><div class=\"card\"><dl>" + body + "</dl></div>\n";
}

std::string SideEntry(const SideSummary& s) {
  std::string details;
  for (const std::string& part : {s.kind, s.architecture, s.executor, s.weights.empty() ? "" : s.weights + " weights",
                                  s.activations.empty() ? "" : s.activations + " activations", s.accumulate.empty() ? "" : "sums in " + s.accumulate}) {
    if (!part.empty()) details += (details.empty() ? "" : ", ") + part;
  }
  return HtmlEscaped(s.path) + (details.empty() ? "" : " <span class=\"soft\">(" + HtmlEscaped(details) + ")</span>");
}

const char* Sentence(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSame: return "Same: both compute the same";
    case Verdict::kRounding: return "Rounding: the number formats explain every difference";
    case Verdict::kDifferent: return "Different";
    case Verdict::kInconclusive: return "Inconclusive";
  }
  return "";
}

}  // namespace

std::string ToHtml(const Report& report) {
  const bool different = report.verdict == Verdict::kDifferent && !report.findings.empty();
  const char* tone = report.verdict == Verdict::kDifferent ? "bad" : report.verdict == Verdict::kInconclusive ? "warn" : "ok";
  std::string body = fmt::format("<h1>apr bisect</h1>\n<p class=\"verdict {}\">{}</p>\n", tone, Sentence(report.verdict));
  if (!report.reason.empty()) body += "<p>" + HtmlEscaped(report.reason) + "</p>\n";
  body += "<div class=\"card\"><dl>" + Entry("A (trusted)", SideEntry(report.a)) + Entry("B (suspect)", SideEntry(report.b)) + "</dl></div>\n";
  if (different) body += "<h2>First difference</h2>\n" + FindingCard(report.findings.front());
  const size_t from = different ? 1 : 0;
  if (report.findings.size() > from) body += "<h2>Also</h2>\n";
  for (size_t i = from; i < report.findings.size(); ++i) body += FindingCard(report.findings[i]);
  body += HeatMap(report);
  if (different) body += Hypotheses(report.findings.front());
  body += CoverageHtml(report);
  if (!report.ids.empty()) {
    std::string ids;
    for (size_t i = 0; i < report.ids.size() && i < 512; ++i) ids += fmt::format("{}{}", i > 0 ? "," : "", report.ids[i]);
    body += fmt::format("<h2>Ids that show it</h2><div class=\"card\"><code>{}{}</code></div>\n", ids, report.ids.size() > 512 ? ",..." : "");
  }
  body += fmt::format("<p class=\"soft\">{:.1f} seconds.</p>\n", report.seconds);
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"
         "<title>apr bisect: " + std::string(VerdictName(report.verdict)) + "</title><style>" + kStyle + "</style></head>\n<body>\n" + body + "</body></html>\n";
}

}  // namespace apr::bisect
