// moe_route: which experts a token goes to and with what weight, from its router logits.
#pragma once

#include "graph/op.h"

namespace apr {

struct MoeRouteAttributes {
  int64_t experts = 0;
  int64_t top_k = 0;
  // "softmax": over all experts, then the top k (Mixtral, Qwen); "softmax_after_top_k": over the
  // chosen logits only (gpt-oss); "sigmoid": each by itself (DeepSeek-V3).
  std::string scoring = "softmax";
  bool normalize = false;     // chosen weights are divided by their sum
  double scaling = 1;         // and multiplied by this
  // DeepSeek: experts lie in `groups`; only experts of the best `top_groups` groups may be chosen. A
  // group's score is that of its best expert, or the sum of its two best (arXiv 2412.19437, section 2.1.2).
  int64_t groups = 1;
  int64_t top_groups = 1;
  bool group_by_top2 = false;
  // The chosen stand in the order in which torch.topk(sorted=False) leaves them (DeepSeek in
  // transformers), not best first. Only traces show the difference.
  bool unsorted = false;
  void Fields(FieldVisitor& v) {
    v.Int("experts", experts);
    v.Int("top_k", top_k);
    v.Text("scoring", scoring);
    v.Bool("normalize", normalize);
    v.Real("scaling", scaling);
    v.Int("groups", groups);
    v.Int("top_groups", top_groups);
    v.Bool("group_by_top2", group_by_top2);
    v.Bool("unsorted", unsorted);
  }
};

// Input: router logits [T, experts]. Weights: none, or a correction [experts] that is added to the scores
// for choosing only (DeepSeek-V3). Outputs: 0 weights [T, top_k]; 1 "indices" [T, top_k], best first,
// ties to the lower index.
const Op& MoeRouteOp();

}  // namespace apr
