// Causes of a stage that has another number of values than it should: heads, experts.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compare/bisect/diagnose.h"

namespace apr::bisect {
namespace {

// B cut q, k and v into another number of heads.
void Heads(Diagnosis& d, const RecordedStage& recorded) {
  const ModelConfig& config = d.model().config;
  const int64_t tokens = d.evaluator().tokens();
  const int64_t heads = static_cast<int64_t>(recorded.values.size()) / std::max<int64_t>(tokens * tokens, 1);
  const int64_t width = config.num_heads * config.head_dim, kv_width = config.num_kv_heads * config.head_dim;
  if (heads < 1 || heads == config.num_heads || width % heads != 0) return;
  const int64_t dim = width / heads;
  if (kv_width % dim != 0 || heads % (kv_width / dim) != 0) return;
  for (const bool scale_follows : {true, false}) {
    const auto variation = d.WithConfig([&](ModelConfig& c) {
      c.num_heads = heads;
      c.num_kv_heads = kv_width / dim;
      c.head_dim = dim;
      c.v_head_dim = dim;
      c.qk_norm = ModelConfig::QkNorm::kNone;
      if (scale_follows) c.attention_scale = 1 / std::sqrt(static_cast<double>(dim));
      for (RopeSpec& rope : c.ropes) rope.table.rotary_dim = std::min(rope.table.rotary_dim, dim);
      if (!c.ropes.empty() && !c.ropes[0].table.factors.empty()) {
        for (RopeSpec& rope : c.ropes) rope.table.scaling = "none";
      }
    });
    if (!variation) continue;
    d.Try({.name = "head_count", .detail = fmt::format("{} heads of {} -> {} of {}", config.num_heads, config.head_dim, heads, dim), .a = config.num_heads, .b = heads,
           .key = "num_attention_heads", .fix = "use as many heads as A", .rank = scale_follows ? 1 : 2, .variation = *variation});
  }
}

// B chose another number of experts.
void Experts(Diagnosis& d, const RecordedStage& recorded) {
  const int64_t k = static_cast<int64_t>(recorded.values.size()) / std::max<int64_t>(d.evaluator().tokens(), 1);
  const MoeSpec& m = d.model().config.moe;
  if (k == m.top_k || k < 1 || k > m.experts) return;
  const auto variation = d.WithConfig([&](ModelConfig& c) { c.moe.top_k = k; });
  if (!variation) return;
  d.Try({.name = "moe_top_k", .detail = fmt::format("{} experts a token -> {}", m.top_k, k), .a = m.top_k, .b = k, .key = "num_experts_per_tok",
         .fix = "choose as many experts as A does", .rank = 0, .variation = *variation});
}

}  // namespace

void TryShapeCauses(Diagnosis& d) {
  const RecordedStage* recorded = d.evaluator().run().Find(d.stage().Path());
  if (recorded == nullptr) return;
  if (d.stage().name == "attn_scores" || d.stage().name == "attn_softmax") Heads(d, *recorded);
  if (d.stage().name == "moe_router" || d.stage().name == "moe_router_indices") Experts(d, *recorded);
}

}  // namespace apr::bisect
