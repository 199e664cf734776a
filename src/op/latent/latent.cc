// See latent.h.
#include "op/latent/latent.h"

#include <algorithm>

#include "op/context.h"
#include "op/infer.h"

namespace apr {
namespace {

class SliceColumns final : public Op {
 public:
  const char* name() const override { return "slice"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const auto& a = node.As<SliceAttributes>();
    const Value& x = InputOf(node, graph, 0);
    if (a.first < 0 || a.width < 1 || a.first + a.width > x.width) ShapeError(node, "the columns lie outside the input");
    return {{.kind = x.kind, .width = a.width}};
  }
  void Reference(const OpContext<double>& context) const override { Run(context); }
  void Cpu(const OpContext<float>& context) const override { Run(context); }

 private:
  template <typename Real>
  static void Run(const OpContext<Real>& context) {
    const auto& a = context.node.template As<SliceAttributes>();
    const int64_t width = context.InputWidth(0);
    for (int64_t t = 0; t < context.InputRows(0); ++t) {
      std::copy_n(context.inputs[0].data() + t * width + a.first, a.width, context.outputs[0].data() + t * a.width);
    }
  }
};

class LatentKv final : public Op {
 public:
  const char* name() const override { return "latent_kv"; }
  std::vector<Value> Infer(const Node& node, const Graph& graph) const override {
    const auto& a = node.As<LatentKvAttributes>();
    if (InputOf(node, graph, 0).width != a.heads * (a.nope_dim + a.v_dim)) ShapeError(node, "kv has the wrong width");
    if (InputOf(node, graph, 1).width != a.rope_dim) ShapeError(node, "the rotated part has the wrong width");
    return {{.kind = ValueKind::kTokens, .width = a.heads * (a.nope_dim + a.rope_dim)},
            {.kind = ValueKind::kTokens, .width = a.heads * a.v_dim, .name = "values"}};
  }
  void Reference(const OpContext<double>& context) const override { Run(context); }
  void Cpu(const OpContext<float>& context) const override { Run(context); }

 private:
  template <typename Real>
  static void Run(const OpContext<Real>& context) {
    const auto& a = context.node.template As<LatentKvAttributes>();
    const Real* kv = context.inputs[0].data();
    Real* key = context.outputs[0].data();
    Real* value = context.outputs[1].data();
    for (int64_t t = 0; t < context.batch.tokens(); ++t) {
      const Real* rotated = context.inputs[1].data() + t * a.rope_dim;
      for (int64_t h = 0; h < a.heads; ++h) {
        key = std::copy_n(kv, a.nope_dim, key);
        key = std::copy_n(rotated, a.rope_dim, key);
        value = std::copy_n(kv + a.nope_dim, a.v_dim, value);
        kv += a.nope_dim + a.v_dim;
      }
    }
  }
};

}  // namespace

const Op& SliceOp() {
  static const SliceColumns kOp;
  return kOp;
}
const Op& LatentKvOp() {
  static const LatentKv kOp;
  return kOp;
}

}  // namespace apr
