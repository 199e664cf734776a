// The names under which values of a forward pass are traced and compared.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace apr {

// All of them in causal order; "final_norm" and "lm_head" belong to the whole model, the others to a
// layer.
std::span<const std::string_view> AllStageNames();
bool IsWholeModelStage(std::string_view name);

// Names between commas as people type them: case does not matter, blanks around a name neither;
// "layer_output" is post_ffn_residual, "all" is every name. In causal order, each once. An empty text
// selects none. Throws Error(kUsage) for an empty element and for an unknown name, listing the valid ones.
std::vector<std::string> ParseStageNames(std::string_view text);

// "START..END", END exclusive. Throws Error(kUsage) if malformed, negative or empty.
struct LayerRange {
  int64_t first = 0;
  int64_t end = 0;
  bool Contains(int64_t layer) const { return layer >= first && layer < end; }
};
LayerRange ParseLayerRange(std::string_view text);

}  // namespace apr
