// See diff_html.h.
#include "compare/diff_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace apr {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --bg: #ffffff; --fg: #1b1f24; --soft: #57606a; --line: #d0d7de; --card: #f6f8fa;
  --ok: #1a7f37; --bad: #cf222e; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --bg: #0d1117; --fg: #e6edf3; --soft: #8b949e; --line: #30363d; --card: #161b22;
  --ok: #3fb950; --bad: #f85149; --warn: #d29922; } }
body { background: var(--bg); color: var(--fg); font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.sub { color: var(--soft); margin: 0; overflow-wrap: anywhere; } .verdict { font-size: 1.15rem; font-weight: 600; margin: 1.25rem 0 .25rem; }
.ok { color: var(--ok); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem; margin: .75rem 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { text-align: left; padding: .25rem .35rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
table.heat { width: auto; } table.heat td { padding: 0; border: 1px solid var(--bg); width: 30px; height: 20px; }
table.heat th { padding: .1rem .4rem; border: 0; font-weight: 500; } table.heat th.v { writing-mode: vertical-rl; transform: rotate(180deg); }
td.first { outline: 3px solid var(--bad); outline-offset: -2px; } code { font-size: 13px; }
)css";

std::string Page(const std::string& title, const std::string& body) {
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"
         "<title>" + HtmlEscaped(title) + "</title><style>" + kStyle + "</style></head>\n<body>\n" + body + "</body></html>\n";
}

std::string Number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return fmt::format("{:.4g}", value);
}

std::string Header(const std::string& title, const std::string& a, const std::string& b) {
  return fmt::format("<h1>{}</h1>\n<p class=\"sub\">A {}<br>B {}</p>\n", HtmlEscaped(title), HtmlEscaped(a), HtmlEscaped(b));
}

std::string NameList(const char* label, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string out = fmt::format("<p class=\"bad\">{} ({}):</p><p><code>", label, names.size());
  for (size_t i = 0; i < names.size() && i < 200; ++i) out += HtmlEscaped(names[i]) + "<br>";
  return out + "</code></p>\n";
}

std::string CoordinateText(const std::vector<int64_t>& coordinate) {
  std::string out;
  for (const int64_t c : coordinate) out += (out.empty() ? "" : ", ") + std::to_string(c);
  return "[" + out + "]";
}

// Green at or below the tolerance, through yellow to red at ten thousand times it.
std::string HeatColour(double error, double tolerance) {
  if (!(error < INFINITY)) return "#8b0000";
  if (error == 0) return "hsl(140 45% 38%)";
  const double decades = std::log10(std::max(error / std::max(tolerance, 1e-300), 1e-6));
  if (decades <= 0) return fmt::format("hsl(140 45% {:.0f}%)", 38 + 5 * std::min(6.0, 6 + decades));
  return fmt::format("hsl({:.0f} 75% 50%)", 50 - 50 * std::min(1.0, decades / 4));
}

std::string HeatCell(const StageDirectoryDiff& diff, const StageRow& row, bool first) {
  const double error = row.problem.empty() ? row.diff.relative_error() : INFINITY;
  const std::string note = row.problem.empty()
                               ? fmt::format("{}: relative error {}, worst {} at {}", row.name, Number(error), Number(row.diff.max_abs), CoordinateText(diff.Coordinate(row)))
                               : row.name + ": " + row.problem;
  return fmt::format("<td{} style=\"background:{}\" title=\"{}\"></td>", first ? " class=\"first\"" : "", HeatColour(error, row.tolerance), HtmlEscaped(note));
}

std::string HeatMap(const StageDirectoryDiff& diff) {
  std::vector<std::string> columns;
  std::map<uint32_t, std::map<std::string, size_t>> cells;
  std::set<std::string> seen;
  for (size_t i = 0; i < diff.rows.size(); ++i) {
    const StageName name = *ParseStageName(diff.rows[i].name);
    cells[name.layer][name.stage] = i;
    if (seen.insert(name.stage).second) columns.push_back(name.stage);
  }
  std::sort(columns.begin(), columns.end(), [](const std::string& a, const std::string& b) { return CausalRank(a) < CausalRank(b); });
  std::string out = "<div class=\"scroll\"><table class=\"heat\"><tr><th></th>";
  for (const std::string& column : columns) out += "<th class=\"v\">" + HtmlEscaped(column) + "</th>";
  out += "</tr>\n";
  for (const auto& [layer, row] : cells) {
    out += fmt::format("<tr><th>{}</th>", layer == kWholeModel ? std::string("model") : fmt::format("layer {}", layer));
    for (const std::string& column : columns) {
      const auto it = row.find(column);
      if (it == row.end()) out += "<td></td>";
      else out += HeatCell(diff, diff.rows[it->second], static_cast<int64_t>(it->second) == diff.first);
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string HtmlEscaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string WeightDiffHtml(const WeightDiff& diff) {
  std::string body = Header("Weights compared", diff.model_a, diff.model_b);
  int64_t different = 0;
  for (const WeightRow& row : diff.rows) different += row.verdict != WeightVerdict::kIdentical && row.verdict != WeightVerdict::kExplained;
  body += fmt::format("<p class=\"verdict {}\">{}</p><p class=\"sub\">{} tensors compared through the {}; {} differ beyond their formats, {} only in A, {} only in B.</p>\n",
                      diff.agree() ? "ok" : "bad", diff.agree() ? "The same weights, as far as the storage types allow." : "The weights differ.",
                      diff.rows.size(), HtmlEscaped(diff.basis), different, diff.only_a.size(), diff.only_b.size());
  body += NameList("Only in A", diff.only_a) + NameList("Only in B", diff.only_b);
  std::vector<const WeightRow*> rows;
  for (const WeightRow& row : diff.rows) rows.push_back(&row);
  std::stable_sort(rows.begin(), rows.end(), [](const WeightRow* x, const WeightRow* y) { return x->ratio > y->ratio; });
  body += "<h2>Tensors, worst first</h2><div class=\"scroll\"><table><tr><th>tensor</th><th>types</th><th>shape</th><th>verdict</th>"
          "<th>RMSE</th><th>x expected</th><th>max</th><th>at</th><th>A</th><th>B</th><th>cosine</th></tr>\n";
  for (const WeightRow* row : rows) {
    const bool good = row->verdict == WeightVerdict::kIdentical || row->verdict == WeightVerdict::kExplained;
    body += fmt::format("<tr><td>{}</td><td>{} / {}</td><td>{}</td><td class=\"{}\" title=\"{}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>"
                        "<td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
                        HtmlEscaped(row->name), HtmlEscaped(row->stored_a), HtmlEscaped(row->stored_b), row->shape_a.ToString(), good ? "ok" : "bad",
                        HtmlEscaped(row->explanation), WeightVerdictName(row->verdict), Number(row->diff.rmse()), Number(row->ratio),
                        Number(row->diff.max_abs), CoordinateText(row->Coordinate()), Number(row->diff.a_at_max), Number(row->diff.b_at_max),
                        row->diff.count == 0 ? "" : fmt::format("{:.8f}", row->diff.cosine()));
  }
  return Page("apr diff: weights", body + "</table></div>\n");
}

std::string StageDiffHtml(const StageDirectoryDiff& diff) {
  std::string body = Header("Stages compared", diff.path_a, diff.path_b);
  body += fmt::format("<p class=\"verdict {}\">{}</p>\n", diff.agree() ? "ok" : "bad", diff.agree() ? "Every stage agrees." : "The runs differ.");
  if (diff.first >= 0) {
    const StageRow& row = diff.rows[static_cast<size_t>(diff.first)];
    body += fmt::format("<div class=\"card\">First difference: <b>{}</b>. {}</div>\n", HtmlEscaped(row.name),
                        row.problem.empty() ? fmt::format("Relative error {} where {} is allowed; worst element at {}: {} in A, {} in B.", Number(row.diff.relative_error()),
                                                          Number(row.tolerance), CoordinateText(diff.Coordinate(row)), Number(row.diff.a_at_max), Number(row.diff.b_at_max))
                                            : HtmlEscaped(row.problem));
  }
  if (!diff.ids_problem.empty()) body += "<p class=\"bad\">" + HtmlEscaped(diff.ids_problem) + "</p>\n";
  body += fmt::format("<p class=\"sub\">{} stages compared, {} only in A, {} only in B.</p>\n", diff.rows.size(), diff.only_a.size(), diff.only_b.size());
  body += "<h2>Layers and stages</h2><p class=\"sub\">Green: within the tolerance. Yellow to red: up to ten thousand times beyond it. Point at a cell for its numbers.</p>" + HeatMap(diff);
  body += NameList("Only in A", diff.only_a) + NameList("Only in B", diff.only_b);
  body += "<h2>Numbers</h2><div class=\"scroll\"><table><tr><th>stage</th><th>agrees</th><th>relative error</th><th>tolerance</th><th>max</th><th>at</th><th>A</th><th>B</th><th>cosine</th></tr>\n";
  for (const StageRow& row : diff.rows) {
    body += fmt::format("<tr><td>{}</td><td class=\"{}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.8f}</td></tr>\n",
                        HtmlEscaped(row.name), row.agrees ? "ok" : "bad", row.problem.empty() ? (row.agrees ? "yes" : "no") : HtmlEscaped(row.problem),
                        Number(row.diff.relative_error()), Number(row.tolerance), Number(row.diff.max_abs), CoordinateText(diff.Coordinate(row)),
                        Number(row.diff.a_at_max), Number(row.diff.b_at_max), row.diff.cosine());
  }
  return Page("apr diff: stages", body + "</table></div>\n");
}

}  // namespace apr
