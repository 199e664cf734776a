// See window_plan.h.
#include "eval/window_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace apr {

const char* WindowModeName(WindowMode mode) { return mode == WindowMode::kTransformers ? "transformers" : "llama.cpp"; }

std::optional<WindowMode> WindowModeFromName(std::string_view name) {
  if (name == "transformers") return WindowMode::kTransformers;
  if (name == "llama.cpp") return WindowMode::kLlamaCpp;
  return std::nullopt;
}

int64_t WindowPlan::scored() const {
  int64_t total = 0;
  for (const EvalWindow& w : windows) total += w.scored();
  return total;
}

WindowPlan WindowPlan::First(int64_t tokens) const {
  WindowPlan out = *this;
  out.windows.clear();
  for (EvalWindow w : windows) {
    w.end = std::min(w.end, w.first_scored + tokens);
    tokens -= w.scored();
    if (w.scored() > 0) out.windows.push_back(w);
  }
  return out;
}

WindowPlan PlanTransformersWindows(int64_t tokens, int64_t window, int64_t stride) {
  if (tokens < 2) throw Error(ErrorCode::kUsage, fmt::format("a text of {} token leaves nothing to score", tokens));
  if (window < 2) throw Error(ErrorCode::kUsage, "a window needs at least 2 tokens");
  if (stride < 1 || stride > window) {
    throw Error(ErrorCode::kUsage, fmt::format("the stride must lie in [1, {}], the window", window));
  }
  WindowPlan plan{.mode = WindowMode::kTransformers, .window = window, .stride = stride, .first_id = {}, .windows = {}};
  double weight = 0;
  for (int64_t begin = 0, scored_to = 0; scored_to < tokens; begin += stride) {
    const int64_t end = std::min(begin + window, tokens);
    const int64_t fresh = end - scored_to;
    // The first token of a window has nothing before it to be predicted from.
    plan.windows.push_back({begin, end, std::max(scored_to, begin + 1), static_cast<double>(fresh - 1)});
    weight += plan.windows.back().weight;
    scored_to = end;
  }
  if (weight <= 0) throw Error(ErrorCode::kUsage, "windows that add one token each have no weight: give a larger --stride");
  return plan;
}

WindowPlan PlanLlamaCppWindows(int64_t tokens, int64_t window, std::optional<int32_t> bos) {
  if (window < 4) throw Error(ErrorCode::kUsage, "a window needs at least 4 tokens");
  if (tokens < 2 * window) {
    throw Error(ErrorCode::kUsage, fmt::format("llama.cpp's chunking needs two windows of {} tokens, the text has {} tokens", window, tokens));
  }
  WindowPlan plan{.mode = WindowMode::kLlamaCpp, .window = window, .stride = window, .first_id = bos, .windows = {}};
  for (int64_t begin = 0; begin + window <= tokens; begin += window) {
    const int64_t first = begin + window / 2 + 1;
    plan.windows.push_back({begin, begin + window, first, static_cast<double>(begin + window - first)});
  }
  return plan;
}

}  // namespace apr
