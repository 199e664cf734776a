// Causes in attention: scale, soft cap, window, mask, heads read by the wrong group.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compare/bisect/attention_pieces.h"
#include "compare/bisect/diagnose.h"
#include "op/attention/attention.h"

namespace apr::bisect {
namespace {

class AttentionCauses {
 public:
  AttentionCauses(Diagnosis& d, const Node& node) : d_(d), node_(node), a_(node.As<AttentionAttributes>()), config_(d.model().config) {}

  void Run() {
    const std::string& stage = d_.stage().name;
    const bool scores = stage == "attn_scores", softmax = stage == "attn_softmax";
    if (!softmax) Heads();
    if (!d_.explained() && !softmax) ScaleAndCap();
    if (!d_.explained() && !scores) MaskAndWindow();
    if (!d_.explained() && !softmax) TryStaleCache(d_, node_);
  }

 private:
  void ScaleAndCap() {
    const Hypothesis cap{.name = "attention_softcap", .key = "attn_logit_softcapping", .fix = "give B the soft cap of A", .rank = 1};
    if (a_.softcap != 0) {
      Hypothesis none = cap;
      none.detail = fmt::format("cap {} -> none", Shortest(a_.softcap));
      none.a = a_.softcap;
      none.b = 0;
      none.rank = 0;
      d_.TryConfig(none, [](ModelConfig& c) { c.attention_softcap = 0; });
    }
    Hypothesis scale{.name = "attention_scale", .detail = "scale", .key = "attention_scale", .fix = "multiply the scores by A's scale", .rank = 1};
    if (config_.attention_scale_by_layer) {
      Hypothesis flat = scale;
      flat.detail = "the scale is not divided by the layer's number";
      flat.a = a_.scale;
      flat.b = config_.attention_scale;
      flat.key = "scale_attn_by_inverse_layer_idx";
      d_.TryConfig(flat, [](ModelConfig& c) { c.attention_scale_by_layer = false; });
    }
    d_.Solve(scale, config_.attention_scale * 1e-3, config_.attention_scale * 1e3, [](ModelConfig& c, double x) { c.attention_scale = x; },
             config_.attention_scale);
    Hypothesis other = cap;
    other.detail = "cap";
    d_.Solve(other, 0.05, 1e4, [](ModelConfig& c, double x) { c.attention_softcap = x; }, a_.softcap);
  }

  void Heads() {
    if (a_.kv_heads == a_.heads || a_.kv_heads == 1) return;
    Hypothesis h{.name = "kv_head_mapping", .detail = "query head h reads key/value head h mod kv_heads", .a = "h / group", .b = "h % kv_heads",
                 .key = "num_key_value_heads", .fix = "let query head h read key/value head h / (heads / kv_heads)", .rank = 1, .variation = d_.base()};
    h.variation.attention.interleaved_kv = true;
    d_.Try(h);
    for (int r = 1; r < a_.kv_heads; ++r) {
      h.variation = d_.base();
      h.variation.attention.kv_rotation = r;
      h.detail = fmt::format("query heads read key/value heads {} too far", r);
      h.b = fmt::format("h / group + {}", r);
      d_.Try(h);
    }
  }

  void MaskAndWindow() {
    const int layer = node_.layer;
    const auto window = [&](int64_t size, int rank) {
      if (size == a_.window) return;
      d_.TryConfig({.name = "sliding_window", .detail = fmt::format("window {} -> {}", a_.window, size), .a = a_.window, .b = size, .key = "sliding_window",
                 .fix = "give this layer the window of A", .rank = rank},
                [&](ModelConfig& c) { c.layers[static_cast<size_t>(layer)].window = size; });
    };
    window(0, 0);
    for (const LayerSpec& other : config_.layers) window(other.window, 0);
    const int64_t tokens = d_.evaluator().tokens();
    // The first wrong position is where the narrower of two windows first cuts a key off.
    const int64_t first = d_.before().position;
    if (!d_.explained() && first > 0) {
      for (int64_t size = std::max<int64_t>(1, first - 2); size <= std::min(first + 2, tokens); ++size) window(size, 1);
    }
    for (int64_t size = 1; !d_.explained() && size < std::min<int64_t>(tokens, 4096); ++size) window(size, 2);
    Hypothesis mask{.name = "causal_mask", .detail = "nothing is masked", .a = "causal", .b = "none", .fix = "mask keys behind the query", .rank = 1,
                    .variation = d_.base()};
    mask.variation.attention.no_mask = true;
    d_.Try(mask);
    if (a_.window > 0) {  // neither mask nor window
      if (auto open = d_.WithConfig([&](ModelConfig& c) { c.layers[static_cast<size_t>(layer)].window = 0; })) {
        mask.variation = std::move(*open);
        mask.variation.attention.no_mask = true;
        d_.Try(mask);
      }
    }
    for (const int shift : {1, -1, 2, -2, 3, -3}) {
      mask.detail = fmt::format("keys up to position {:+} are seen", shift);
      mask.b = fmt::format("{:+}", shift);
      mask.variation = d_.base();
      mask.variation.attention.mask_shift = shift;
      d_.Try(mask);
    }
  }

  Diagnosis& d_;
  const Node& node_;
  const AttentionAttributes& a_;
  const ModelConfig& config_;
};

}  // namespace

void TryAttentionCauses(Diagnosis& d) {
  if (d.stage().name == "k_post_rope" && d.stage().parts.size() == 1) {
    TryStaleKeys(d);
    return;
  }
  for (const int index : d.cone()) {
    const Node& node = d.graph().nodes[static_cast<size_t>(index)];
    if (node.op == &AttentionOp()) {
      AttentionCauses(d, node).Run();
      return;
    }
  }
}

}  // namespace apr::bisect
