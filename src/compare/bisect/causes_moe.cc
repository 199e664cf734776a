// Causes in expert routing: how many experts, when the softmax is taken, whether weights are normalised.
#include <fmt/format.h>

#include <cmath>

#include "compare/bisect/diagnose.h"
#include "op/moe/moe_experts.h"
#include "op/moe/moe_route.h"

namespace apr::bisect {
namespace {

void Router(Diagnosis& d) {
  const MoeSpec& m = d.model().config.moe;
  d.TryConfig({.name = "moe_norm_topk", .detail = fmt::format("chosen weights {} by their sum", m.normalize ? "not divided" : "divided"), .a = m.normalize,
                .b = !m.normalize, .key = "norm_topk_prob", .fix = "normalise the chosen weights as A does", .rank = 1},
            [](ModelConfig& c) { c.moe.normalize = !c.moe.normalize; });
  for (const char* scoring : {"softmax", "softmax_after_top_k", "sigmoid"}) {
    for (const bool normalize : {false, true}) {
      if (m.scoring == scoring) continue;
      d.TryConfig({.name = "moe_router_order", .detail = fmt::format("{} -> {}{}", m.scoring, scoring, normalize ? ", normalised" : ""), .a = m.scoring, .b = scoring,
                    .key = "scoring_func", .fix = "take the router's softmax where A does", .rank = normalize == m.normalize ? 2 : 3},
                [&](ModelConfig& c) {
                  c.moe.scoring = scoring;
                  c.moe.normalize = normalize;
                });
    }
  }
  Hypothesis raw{.name = "moe_router_weights", .detail = "the router's logits themselves are the weights", .a = nullptr, .b = nullptr,
                 .fix = "turn the router's logits into probabilities", .rank = 2, .variation = d.base()};
  for (const bool normalized : {false, true}) {
    raw.variation = d.base();
    raw.variation.rules.emplace_back([&run = d.evaluator().run(), normalized](const NodeCall& call, std::vector<double>& out) {
      if (call.node.op != &MoeRouteOp()) return false;
      const auto& a = call.node.As<MoeRouteAttributes>();
      const RecordedStage* chosen = run.Find(fmt::format("layer-{}/moe_router_indices", call.node.layer));
      if (chosen == nullptr || chosen->values.size() != out.size()) return false;
      for (int64_t t = 0; t < call.rows; ++t) {
        double sum = 0;
        for (int64_t i = 0; i < a.top_k; ++i) {
          const auto at = static_cast<size_t>(t * a.top_k + i);
          out[at] = call.inputs[0][static_cast<size_t>(t * a.experts + static_cast<int64_t>(chosen->values[at]))];
          sum += out[at];
        }
        for (int64_t i = 0; normalized && i < a.top_k; ++i) out[static_cast<size_t>(t * a.top_k + i)] /= sum;
      }
      return true;
    });
    d.Try(raw);
  }
  d.Solve({.name = "moe_router_weights", .detail = "scaling of the weights", .key = "routed_scaling_factor", .fix = "scale the chosen weights as A does", .rank = 3},
          m.scaling * 1e-2, m.scaling * 1e2, [](ModelConfig& c, double x) { c.moe.scaling = x; }, m.scaling);
}

}  // namespace

void TryMoeCauses(Diagnosis& d) {
  if (!d.HasOp(MoeRouteOp())) return;
  Router(d);
}

}  // namespace apr::bisect
