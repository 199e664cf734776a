// Causes in norms: eps, offset of the weights, a norm left out, a bias left out.
#include <fmt/format.h>

#include "compare/bisect/diagnose.h"
#include "op/norm/norm.h"

namespace apr::bisect {
namespace {

// The norm as it would be with other parameters, whatever the rest of the graph has: for single norms.
void TryRule(Diagnosis& d, const char* name, const std::string& detail, int rank, NodeRule rule, const std::string& fix) {
  Hypothesis h{.name = name, .detail = detail, .a = nullptr, .b = nullptr, .fix = fix, .rank = rank, .variation = d.base()};
  h.variation.rules.push_back(std::move(rule));
  d.Try(std::move(h));
}

}  // namespace

void TryNormCauses(Diagnosis& d) {
  if (!d.HasOp(NormOp())) return;
  const ModelConfig& config = d.model().config;
  const std::string key = config.layer_norm ? "layer_norm_eps" : "rms_norm_eps";
  d.Solve({.name = "norm_eps", .detail = "eps", .key = key, .fix = "set the norms' eps to A's value", .rank = 1}, 1e-13, 1,
          [](ModelConfig& c, double x) { c.norm_eps = x; }, config.norm_eps);
  for (const double offset : {config.norm_offset - 1, config.norm_offset + 1}) {
    if (offset == config.norm_offset) continue;
    const auto variation = d.WithConfig([&](ModelConfig& c) { c.norm_offset = offset; });
    if (!variation) continue;
    d.Try({.name = "norm_offset",
           .detail = fmt::format("weights multiply as w + {:.0f} instead of w + {:.0f}", offset, config.norm_offset),
           .a = config.norm_offset,
           .b = offset,
           .fix = "the norm's weight is added 1 to once too often or too rarely",
           .rank = 1,
           .variation = *variation});
  }
  if (config.norm_has_bias) {
    const auto variation = d.WithConfig([](ModelConfig& c) { c.norm_has_bias = false; });
    if (variation) {
      d.Try({.name = "missing_bias", .detail = "the norm's bias is not added", .a = nullptr, .b = nullptr, .fix = "add the norm's bias", .rank = 1, .variation = *variation});
    }
  }
  TryRule(d, "missing_norm", "the norm is left out", 2, [](const NodeCall& call, std::vector<double>& out) {
    if (call.node.op != &NormOp()) return false;
    out = call.inputs[0];
    return true;
  }, "apply the norm");
}

}  // namespace apr::bisect
