// See select_rows.h.
#include "op/select_rows/select_rows.h"

#include <algorithm>

#include "op/context.h"
#include "op/infer.h"

namespace apr {
namespace {

template <typename Real>
void Select(const OpContext<Real>& context) {
  const int64_t width = context.InputWidth(0);
  Real* out = context.outputs[0].data();
  for (const int64_t row : context.batch.logit_rows) {
    out = std::copy_n(context.inputs[0].data() + row * width, width, out);
  }
}

class SelectRows final : public Op {
 public:
  const char* name() const override { return "select_rows"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    return {{.kind = ValueKind::kLogitRows, .width = InputOf(node, graph, 0).width}};
  }
  void Reference(const OpContext<double>& context) const override { Select(context); }
  void Cpu(const OpContext<float>& context) const override { Select(context); }
};

}  // namespace

const Op& SelectRowsOp() {
  static const SelectRows kOp;
  return kOp;
}

}  // namespace apr
