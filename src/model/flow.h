// How data flows through a model, from its configuration and its tensor names alone.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "format/model_file.h"

namespace apr {

enum class FlowComponent { kFull, kEncoder, kDecoder, kSelfAttention, kCrossAttention, kFeedForward };
const char* FlowComponentName(FlowComponent component);  // "full", "self_attn"
std::optional<FlowComponent> FlowComponentFromName(std::string_view name);

struct FlowStep {
  std::string name;                   // "layer-0/q_proj"
  std::string op;
  std::string attributes;             // of the op, empty without
  std::vector<std::string> weights;   // "model.layers.0.self_attn.q_proj.weight [48, 32]"
  std::vector<std::string> inputs;
};

struct FlowReport {
  std::string file, format, architecture;  // architecture empty: unknown, then there are no steps
  std::string problem;                     // why it is unknown
  uint64_t total_tensors = 0;
  int64_t encoder_layers = 0, decoder_layers = 0;
  // "embedding", "encoder", "decoder", "lm_head", "other": names of tensors
  std::map<std::string, std::vector<std::string>> groups;
  std::vector<FlowStep> steps;             // of one layer and what surrounds the layers
  std::vector<std::string> tensors;        // of the component asked for

  Json ToJson(FlowComponent component) const;
};

// `layer`: whose steps to give; nullopt: layer 0 stands for all. Throws kValidationFailed when the model has no such component or layer.
FlowReport DescribeFlow(const ModelFile& file, FlowComponent component, std::optional<int> layer);

}  // namespace apr
