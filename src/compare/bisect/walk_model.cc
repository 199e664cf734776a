// See walk_model.h.
#include "compare/bisect/walk_model.h"

#include <utility>

#include "model/builder.h"

namespace apr::bisect {
namespace {

bool Fits(const WeightRef& weight, const Shape& shape) {
  return !weight.view.bytes.empty() && weight.view.shape.num_elements() == shape.num_elements() && weight.view.cols() == shape.cols();
}

}  // namespace

std::shared_ptr<const WalkModel> BindWalkModel(const ModelConfig& config, const Architecture& architecture, const SlotTable& slots,
                                               std::shared_ptr<const void> keep_alive) {
  auto out = std::make_shared<WalkModel>();
  out->config = config;
  out->architecture = &architecture;
  BuiltGraph built = BuildGraph(config, [&](const SlotKey& key) { return HfName(architecture, key); });
  out->slots = std::move(built.slots);
  out->bound.graph = std::move(built.graph);
  out->bound.keep_alive = std::move(keep_alive);
  for (size_t i = 0; i < out->slots.size(); ++i) {
    const auto it = slots.slots.find(out->slots[i]);
    const bool fits = it != slots.slots.end() && Fits(it->second.weight, out->bound.graph.weights[i].shape);
    out->bound.weights.push_back(fits ? it->second.weight : WeightRef{});
    out->present.push_back(fits);
  }
  out->held = out->bound.Hold();
  for (size_t s = 0; s < out->bound.graph.stages.size(); ++s) {
    const Stage& stage = out->bound.graph.stages[s];
    for (size_t p = 0; p < stage.parts.size(); ++p) out->users[stage.parts[p]].emplace_back(static_cast<int>(s), static_cast<int>(p));
  }
  return out;
}

std::shared_ptr<const WalkModel> WithWeights(const WalkModel& model, const std::map<SlotKey, WeightRef>& replaced) {
  auto out = std::make_shared<WalkModel>(model);
  for (size_t i = 0; i < out->slots.size(); ++i) {
    const auto it = replaced.find(out->slots[i]);
    if (it == replaced.end()) continue;
    out->bound.weights[i] = it->second;
    out->present[i] = !it->second.view.bytes.empty();
    out->held.push_back(it->second.Hold());
  }
  return out;
}

}  // namespace apr::bisect
