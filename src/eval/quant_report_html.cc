// The page of a quantisation report.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "compare/diff_html.h"
#include "eval/quant_report.h"

namespace apr {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --soft: #57606a; --line: #d0d7de; --card: #f6f8fa; --bar: #0969da; }
@media (prefers-color-scheme: dark) { :root { --bg: #0d1117; --fg: #e6edf3; --soft: #8b949e; --line: #30363d; --card: #161b22; --bar: #58a6ff; } }
body { background: var(--bg); color: var(--fg); font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); overflow-wrap: anywhere; } .scroll { overflow-x: auto; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; } .figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .9rem; }
.figure b { display: block; font-size: 1.2rem; } table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; } th { color: var(--soft); }
td.n { text-align: right; font-variant-numeric: tabular-nums; } .bar { display: inline-block; height: .7rem; background: var(--bar); border-radius: 2px; }
table.heat td { padding: 0; border: 1px solid var(--bg); width: 34px; height: 20px; } table.heat th { border: 0; padding: .1rem .4rem; font-weight: 500; }
table.heat th.v { writing-mode: vertical-rl; transform: rotate(180deg); } code { font-size: 12px; }
)css";

std::string Number(double value) {
  if (std::isnan(value)) return "nan";
  return std::isinf(value) ? "∞" : fmt::format("{:.4g}", value);
}

std::string Figure(const std::string& value, const std::string& label) {
  return fmt::format("<div class=\"figure\"><b>{}</b>{}</div>\n", HtmlEscaped(value), HtmlEscaped(label));
}

std::string Figures(const QuantReport& r) {
  const Divergence& d = r.divergence;
  const double ratio = std::exp(d.log_ratio);
  std::string out = "<div class=\"figures\">\n";
  out += Figure(fmt::format("{} ± {}", Number(d.kld.mean), fmt::format("{:.1g}", d.kld.error)), "mean KLD, nats");
  out += Figure(Number(Percentile(d.kld.sorted, 99.9)), "99.9 % KLD");
  out += Figure(fmt::format("{:.2f} % ± {:.2f}", 100 * d.top1, 100 * d.top1_error), "same top token");
  out += Figure(fmt::format("{:.4f} ± {:.1g}", ratio, ratio * d.log_ratio_error), "perplexity B / A");
  out += Figure(fmt::format("{:.3f} ± {:.1g}", d.rms_delta_p, d.rms_delta_p_error), "RMS Δp, percent points");
  if (r.floor) out += Figure(Number(r.floor->kld.mean), "floor: mean KLD of rounding alone");
  return out + "</div>\n";
}

// Blue from 1e-4 (none) to 1 (full), on a logarithmic scale.
std::string Shade(double error) {
  const double part = error <= 0 ? 0 : std::clamp((std::log10(error) + 4) / 4, 0.0, 1.0);
  return fmt::format("color-mix(in srgb, var(--bar) {:.0f}%, var(--card))", 100 * part);
}

// Layers down, ops with weights across; a cell shows one of the two errors.
std::string HeatMap(const std::vector<OpError>& ops, bool own) {
  std::vector<std::string> columns;
  std::map<int, std::map<std::string, const OpError*>> rows;
  for (const OpError& op : ops) {
    if (op.layer < 0 || op.tensors.empty()) continue;
    const std::string name = op.node.substr(op.node.find('/') + 1);
    if (std::ranges::find(columns, name) == columns.end()) columns.push_back(name);
    rows[op.layer][name] = &op;
  }
  std::string out = "<div class=\"scroll\"><table class=\"heat\"><tr><th></th>";
  for (const std::string& column : columns) out += fmt::format("<th class=\"v\">{}</th>", HtmlEscaped(column));
  out += "</tr>\n";
  for (const auto& [layer, cells] : rows) {
    out += fmt::format("<tr><th>{}</th>", layer);
    for (const std::string& column : columns) {
      const auto it = cells.find(column);
      if (it == cells.end()) {
        out += "<td></td>";
        continue;
      }
      const double error = own ? it->second->own : it->second->propagated;
      out += fmt::format("<td style=\"background:{}\" title=\"layer {} {}: {}\"></td>", Shade(error), layer, HtmlEscaped(column), Number(error));
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string CostTable(const QuantReport& r) {
  if (r.costs.empty()) return "";
  std::string out = "<h2>What each tensor costs by itself</h2>\n<p class=\"soft\">Mean KLD of A with only this tensor taken from B; those at the top gain most from more bits.</p>\n<div class=\"scroll\"><table><tr><th>tensor</th><th>type</th><th>KLD</th><th></th></tr>\n";
  const double top = std::max(r.costs.front().kld, 1e-300);
  for (size_t i = 0; i < std::min<size_t>(r.costs.size(), 60); ++i) {
    const TensorCost& c = r.costs[i];
    out += fmt::format("<tr><td><code>{}</code></td><td>{}</td><td class=\"n\">{} ± {:.1g}</td><td><span class=\"bar\" style=\"width:{:.0f}px\"></span></td></tr>\n",
                       HtmlEscaped(c.tensor), NameOf(c.type), Number(c.kld), c.kld_error, 200 * c.kld / top);
  }
  return out + "</table></div>\n";
}

std::string TensorTable(const QuantReport& r) {
  std::vector<const TensorNoise*> order;
  for (const TensorNoise& t : r.tensors) order.push_back(&t);
  std::ranges::stable_sort(order, {}, [](const TensorNoise* t) { return t->sqnr; });
  std::string out = "<h2>Tensors, noisiest first</h2>\n<div class=\"scroll\"><table><tr><th>tensor</th><th>A</th><th>B</th><th>SQNR, dB</th><th>the types explain</th><th>error / explained</th><th>verdict</th></tr>\n";
  for (const TensorNoise* t : order) {
    if (std::isinf(t->sqnr)) continue;
    out += fmt::format("<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td class=\"n\">{:.2f}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
                       HtmlEscaped(t->row.name), HtmlEscaped(t->row.stored_a), HtmlEscaped(t->row.stored_b), t->sqnr, Number(t->expected_sqnr), Number(t->row.ratio),
                       WeightVerdictName(t->row.verdict));
  }
  return out + "</table></div>\n";
}

std::string SuggestionText(const QuantReport& r) {
  if (!r.suggestion) return "";
  const Suggestion& s = *r.suggestion;
  return fmt::format("<h2>Another mix</h2>\n<p>Expected mean KLD {} at {} bytes, {} at {} bytes now (the costs of single tensors added up).</p>\n<details><summary>The list for apr quantize</summary><pre>{}</pre></details>\n",
                     Number(s.cost), s.bytes, Number(s.cost_now), s.bytes_now, HtmlEscaped(s.FlagList()));
}

}  // namespace

std::string QuantReport::ToHtml() const {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Quantisation report</title><style>";
  out += kStyle;
  out += fmt::format("</style></head>\n<body>\n<h1>Quantisation report</h1>\n<p class=\"soft\">A {}<br>B {}</p>\n", HtmlEscaped(path_a), HtmlEscaped(path_b));
  out += fmt::format("<h2>Predictions over {} tokens</h2>\n", divergence.num_tokens) + Figures(*this);
  out += CostTable(*this) + SuggestionText(*this);
  out += "<h2>Error of each op by itself</h2>\n<p class=\"soft\">B's op on A's inputs, relative to A's result; the shade is logarithmic from 0.0001 to 1.</p>\n" + HeatMap(ops, true);
  out += "<h2>Error that has come together</h2>\n<p class=\"soft\">The same with B's own inputs.</p>\n" + HeatMap(ops, false);
  out += TensorTable(*this);
  return out + "</body></html>\n";
}

}  // namespace apr
