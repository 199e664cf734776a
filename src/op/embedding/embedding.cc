// See embedding.h.
#include "op/embedding/embedding.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "op/context.h"
#include "op/infer.h"

namespace apr {
namespace {

template <typename Real>
void LookUp(const OpContext<Real>& context) {
  const auto& a = context.node.template As<EmbeddingAttributes>();
  const WeightRef& weight = *context.weights[0];
  const int64_t width = context.OutputWidth(0);
  const std::span<Real> out = context.outputs[0];
  const auto read = [&](int64_t t) {
    const auto i = static_cast<size_t>(t);
    const int64_t row = a.by_position ? context.batch.positions[i] + a.offset : context.batch.ids[i];
    if (row < 0 || row >= weight.rows()) {
      throw Error(ErrorCode::kInference,
                  fmt::format("{} {} is outside the table of {} rows",
                              a.by_position ? "position" : "token id", row, weight.rows()),
                  {.tensor = weight.source});
    }
    const std::span<Real> y = out.subspan(static_cast<size_t>(t * width), static_cast<size_t>(width));
    ReadWeightRow(weight, row, y);
    if (a.scale == 1) return;
    for (Real& value : y) value = static_cast<Real>(value * static_cast<Real>(a.scale));
  };
  context.pool.ParallelFor(context.batch.tokens(), std::max<int64_t>(1, 8192 / std::max<int64_t>(width, 1)),
                           [&](int64_t begin, int64_t end, int) {
                             for (int64_t t = begin; t < end; ++t) read(t);
                           });
}

class Embedding final : public Op {
 public:
  const char* name() const override { return "embedding"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const Shape& w = WeightShapeOf(node, graph, 0);
    if (w.ndim() != 2) ShapeError(node, "the table must be 2-D, is " + w.ToString());
    return {{.kind = ValueKind::kTokens, .width = w[1]}};
  }
  void Reference(const OpContext<double>& context) const override { LookUp(context); }
  void Cpu(const OpContext<float>& context) const override { LookUp(context); }
};

}  // namespace

const Op& EmbeddingOp() {
  static const Embedding kOp;
  return kOp;
}

}  // namespace apr
