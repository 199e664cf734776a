// See stage_names.h.
#include "graph/stage_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"

namespace apr {
namespace {

constexpr std::array<std::string_view, 28> kNames = {
    "embedding",     "attn_norm",   "qkv_matmul",         "qkv_bias",   "q_norm",
    "k_norm",        "q_post_rope", "k_post_rope",        "attn_scores", "attn_softmax",
    "attention",     "attn_out",    "post_attn_norm",     "post_attn_residual", "ffn_norm",
    "moe_router_logits", "moe_router", "moe_router_indices", "ffn_gate", "ffn_up",
    "ffn_silu",      "ffn_swigl",   "ffn_out",            "moe_ffn_out", "post_ffn_norm",
    "post_ffn_residual", "final_norm", "lm_head"};

std::string Normalized(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == text.npos) return "";
  std::string out(text.substr(first, text.find_last_not_of(" \t") - first + 1));
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out == "layer_output" ? "post_ffn_residual" : out;
}

// -1: no number.
int64_t ParseNumber(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? value : -1;
}

}  // namespace

std::span<const std::string_view> AllStageNames() { return kNames; }
bool IsWholeModelStage(std::string_view name) { return name == "final_norm" || name == "lm_head"; }

std::vector<std::string> ParseStageNames(std::string_view text) {
  if (Normalized(text).empty()) return {};
  std::array<bool, kNames.size()> chosen{};
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string name = Normalized(text.substr(at, comma - at));
    at = comma + 1;
    if (name.empty()) throw Error(ErrorCode::kUsage, fmt::format("an empty stage name in '{}'", text));
    const auto* known = std::ranges::find(kNames, name);
    if (name == "all") {
      chosen.fill(true);
    } else if (known == kNames.end()) {
      throw Error(ErrorCode::kUsage, fmt::format("unknown stage '{}'; valid: all, layer_output, {}", name,
                                                 fmt::join(kNames, ", ")));
    } else {
      chosen[static_cast<size_t>(known - kNames.begin())] = true;
    }
  }
  std::vector<std::string> out;
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (chosen[i]) out.emplace_back(kNames[i]);
  }
  return out;
}

LayerRange ParseLayerRange(std::string_view text) {
  const size_t dots = text.find("..");
  const int64_t first = ParseNumber(text.substr(0, std::min(dots, text.size())));
  const int64_t end = dots == text.npos ? -1 : ParseNumber(text.substr(dots + 2));
  if (first < 0 || end < 0) {
    throw Error(ErrorCode::kUsage, fmt::format("'{}' is no layer range START..END (END exclusive)", text));
  }
  if (end <= first) {
    throw Error(ErrorCode::kUsage, fmt::format("the layer range {} is empty: END is exclusive", text));
  }
  return {first, end};
}

}  // namespace apr
