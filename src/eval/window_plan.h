// Into which windows a text is cut when a model is judged by it, and which tokens of each are scored.
// A window runs as a sequence of its own; a token is scored given those before it in the window.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace apr {

enum class WindowMode {
  // huggingface/transformers, docs/source/en/perplexity.md: windows of `window` tokens, `stride` apart; each
  // scores the tokens that no earlier one did. The mean is that page's: of each window's mean loss, weighted
  // by one less than the number of its new tokens.
  kTransformers,
  // ggml-org/llama.cpp, tools/perplexity/perplexity.cpp: whole windows side by side, what is left over is
  // dropped; the second half of each is scored, from token window / 2 + 1 on; the first token of each is
  // replaced by BOS where the vocabulary puts one before a text.
  kLlamaCpp,
};
const char* WindowModeName(WindowMode mode);  // "transformers", "llama.cpp"
std::optional<WindowMode> WindowModeFromName(std::string_view name);

struct EvalWindow {
  int64_t begin = 0;         // tokens [begin, end) of the text
  int64_t end = 0;
  int64_t first_scored = 0;  // tokens [first_scored, end) are scored
  double weight = 0;         // of the mean over them
  int64_t scored() const { return end - first_scored; }
};

struct WindowPlan {
  WindowMode mode = WindowMode::kTransformers;
  int64_t window = 0;
  int64_t stride = 0;
  std::optional<int32_t> first_id;  // takes the place of each window's first token
  std::vector<EvalWindow> windows;
  int64_t scored() const;
  // The beginning of this plan that scores `tokens` tokens, all of it if there are fewer.
  WindowPlan First(int64_t tokens) const;
};

// Throws kUsage: nothing would be scored, a stride outside [1, window], a text of fewer than two windows
// (llama.cpp's rule) or fewer than two tokens.
WindowPlan PlanTransformersWindows(int64_t tokens, int64_t window, int64_t stride);
WindowPlan PlanLlamaCppWindows(int64_t tokens, int64_t window, std::optional<int32_t> bos);

}  // namespace apr
