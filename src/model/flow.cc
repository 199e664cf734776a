// See flow.h.
#include "model/flow.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "graph/op.h"
#include "model/builder.h"
#include "model/inventory.h"
#include "model/model.h"
#include "model/resolve.h"

namespace apr {
namespace {

constexpr std::pair<FlowComponent, const char*> kComponentNames[] = {
    {FlowComponent::kFull, "full"},           {FlowComponent::kEncoder, "encoder"},          {FlowComponent::kDecoder, "decoder"},
    {FlowComponent::kSelfAttention, "self_attn"}, {FlowComponent::kCrossAttention, "cross_attn"}, {FlowComponent::kFeedForward, "ffn"},
};

bool Holds(std::string_view name, std::string_view part) { return name.find(part) != name.npos; }
bool HoldsAny(std::string_view name, std::initializer_list<std::string_view> parts) {
  return std::ranges::any_of(parts, [&](std::string_view part) { return Holds(name, part); });
}

// The number behind "layers.", "blk.", "block.", "h." or "layer.".
std::optional<int> LayerOf(std::string_view name) {
  for (const std::string_view before : {"layers.", "blk.", "block.", "blocks.", "layer.", "h."}) {
    size_t at = name.find(before);
    while (at != name.npos) {
      size_t digit = at + before.size();
      const bool starts_part = at == 0 || name[at - 1] == '.';
      int value = 0;
      size_t digits = 0;
      while (digit < name.size() && digits < 6 && name[digit] >= '0' && name[digit] <= '9') value = 10 * value + (name[digit++] - '0'), ++digits;
      if (starts_part && digits > 0 && digit < name.size() && name[digit] == '.') return value;
      at = name.find(before, at + 1);
    }
  }
  return std::nullopt;
}

bool IsEncoderName(std::string_view name) { return Holds(name, "encoder.") || name.starts_with("enc."); }
bool IsCrossAttention(std::string_view name) { return HoldsAny(name, {"cross_attn", "encoder_attn", "EncDecAttention", "crossattention"}); }
bool IsAttention(std::string_view name) {
  return !IsCrossAttention(name) && HoldsAny(name, {"attn", "attention", "SelfAttention"}) && !Holds(name, "post_attention_layernorm");
}
bool IsFeedForward(std::string_view name) { return HoldsAny(name, {"mlp", "ffn", "feed_forward", "fc1", "fc2", "DenseReluDense", "expert"}); }

std::string GroupOf(const TensorInfo& info) {
  const bool layered = LayerOf(info.name).has_value();
  if (layered) return IsEncoderName(info.name) && !IsCrossAttention(info.name) ? "encoder" : "decoder";
  switch (RoleOf(info, nullptr)) {
    case TensorRole::kEmbedding: return "embedding";
    case TensorRole::kHead: return "lm_head";
    default: break;
  }
  if (HoldsAny(info.name, {"wpe.", "position_embd", "embed_positions", "shared.weight"})) return "embedding";
  if (HoldsAny(info.name, {"lm_head", "embed_out"}) || info.name.starts_with("output.")) return "lm_head";
  return "other";
}

bool InComponent(std::string_view name, const std::string& group, FlowComponent component) {
  switch (component) {
    case FlowComponent::kFull: return true;
    case FlowComponent::kEncoder: return group == "encoder";
    case FlowComponent::kDecoder: return group == "decoder";
    case FlowComponent::kSelfAttention: return IsAttention(name);
    case FlowComponent::kCrossAttention: return IsCrossAttention(name);
    case FlowComponent::kFeedForward: return IsFeedForward(name);
  }
  return false;
}

// Steps of the graph, cut down to what was asked for.
class StepWriter {
 public:
  StepWriter(const BuiltGraph& built, FlowComponent component, int layer)
      : graph_(built.graph), slots_(built.slots), component_(component), layer_(layer) {}

  std::vector<FlowStep> Run() {
    std::vector<FlowStep> out;
    part_.resize(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      part_[i] = PartOf(node);
      if (Wanted(node, part_[i])) out.push_back(Step(node));
    }
    return out;
  }

 private:
  enum class Part { kNone, kAttention, kFeedForward };

  // By the node's weights, else by where its inputs come from.
  Part PartOf(const Node& node) const {
    if (node.layer < 0) return Part::kNone;
    for (const WeightId w : node.weights) {
      return slots_[static_cast<size_t>(w)].slot < Slot::kFfnNorm ? Part::kAttention : Part::kFeedForward;
    }
    Part out = Part::kAttention;
    for (const ValueId v : node.inputs) {
      const int producer = graph_.values[static_cast<size_t>(v)].producer;
      if (producer >= 0 && graph_.nodes[static_cast<size_t>(producer)].layer == node.layer &&
          part_[static_cast<size_t>(producer)] == Part::kFeedForward) {
        out = Part::kFeedForward;
      }
    }
    return out;
  }

  bool Wanted(const Node& node, Part part) const {
    if (node.layer >= 0 && node.layer != layer_) return false;
    switch (component_) {
      case FlowComponent::kFull: return true;
      case FlowComponent::kDecoder: return node.layer >= 0;
      case FlowComponent::kSelfAttention: return part == Part::kAttention;
      case FlowComponent::kFeedForward: return part == Part::kFeedForward;
      default: return false;
    }
  }

  FlowStep Step(const Node& node) const {
    FlowStep step{node.name, std::string(node.op->name()), node.attributes ? node.attributes->ToString() : "", {}, {}};
    for (const WeightId w : node.weights) {
      const WeightSlot& slot = graph_.weights[static_cast<size_t>(w)];
      step.weights.push_back(slot.name + " " + slot.shape.ToString());
    }
    for (const ValueId v : node.inputs) step.inputs.push_back(graph_.values[static_cast<size_t>(v)].name);
    return step;
  }

  const Graph& graph_;
  const std::vector<SlotKey>& slots_;
  FlowComponent component_;
  int layer_;
  std::vector<Part> part_;
};

void AddSteps(const ModelFile& file, FlowComponent component, int layer, FlowReport& out) {
  try {
    const ResolvedConfig resolved = ResolveConfig(file);
    out.architecture = resolved.config.architecture;
    out.decoder_layers = resolved.config.num_layers;
    const BuiltGraph built = BuildGraph(resolved.config, [&](const SlotKey& key) { return HfName(*resolved.architecture, key); });
    out.steps = StepWriter(built, component, layer).Run();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kModelLoad && e.code() != ErrorCode::kInvalidFormat) throw;
    out.problem = e.message();
  }
}

}  // namespace

const char* FlowComponentName(FlowComponent component) {
  for (const auto& [c, name] : kComponentNames) {
    if (c == component) return name;
  }
  return "";
}

std::optional<FlowComponent> FlowComponentFromName(std::string_view name) {
  for (const auto& [c, known] : kComponentNames) {
    if (name == known) return c;
  }
  return std::nullopt;
}

FlowReport DescribeFlow(const ModelFile& file, FlowComponent component, std::optional<int> layer) {
  FlowReport out;
  out.file = file.path();
  out.format = ContainerName(file.container());
  out.total_tensors = file.tensors().size();
  std::set<int> encoder, decoder;
  for (const char* group : {"embedding", "encoder", "decoder", "lm_head", "other"}) out.groups[group];
  for (const TensorInfo& info : file.tensors()) {
    const std::string group = GroupOf(info);
    const auto number = LayerOf(info.name);
    if (group == "encoder" && number) encoder.insert(*number);
    if (group == "decoder" && number) decoder.insert(*number);
    out.groups[group].push_back(info.name);
    if (InComponent(info.name, group, component) && (!layer || number == layer)) out.tensors.push_back(info.name);
  }
  out.encoder_layers = static_cast<int64_t>(encoder.size());
  out.decoder_layers = static_cast<int64_t>(decoder.size());
  AddSteps(file, component, layer.value_or(0), out);
  if (layer && *layer >= std::max(out.encoder_layers, out.decoder_layers)) {
    throw Error(ErrorCode::kValidationFailed, fmt::format("layer {} of {} does not exist", *layer, std::max(out.encoder_layers, out.decoder_layers)),
                {.file = file.path()});
  }
  if (out.tensors.empty() && out.steps.empty()) {
    throw Error(ErrorCode::kValidationFailed, fmt::format("the model has no {}", FlowComponentName(component)), {.file = file.path()});
  }
  return out;
}

Json FlowReport::ToJson(FlowComponent component) const {
  Json counts = Json::object();
  for (const char* group : {"embedding", "encoder", "decoder", "lm_head", "other"}) counts[group] = groups.at(group).size();
  Json list = Json::array();
  for (const FlowStep& step : steps) {
    list.push_back({{"name", step.name}, {"op", step.op}, {"attributes", step.attributes}, {"weights", step.weights}, {"inputs", step.inputs}});
  }
  return {{"file", file},
          {"format", format},
          {"architecture", architecture.empty() ? Json(nullptr) : Json(architecture)},
          {"component", FlowComponentName(component)},
          {"total_tensors", total_tensors},
          {"encoder_layers", encoder_layers},
          {"decoder_layers", decoder_layers},
          {"tensor_groups", std::move(counts)},
          {"tensors", tensors},
          {"steps", std::move(list)},
          {"problem", problem.empty() ? Json(nullptr) : Json(problem)}};
}

}  // namespace apr
