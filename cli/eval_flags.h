// Flags of the commands that judge a model by a text: the text, and the windows it is cut into.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/model_flags.h"
#include "eval/window_plan.h"

namespace apr {

struct EvalFlags {
  PromptFlags prompt;
  std::string text_file;
  std::string mode = "transformers";
  int64_t window = 0;  // 0: 2048, at most what the model declares; llama.cpp's mode: 512
  int64_t stride = 0;  // 0: 512, at most the window
};
void AddEvalFlags(Flags& app, EvalFlags& flags);
// Throws kUsage unless exactly one text was given.
void RequireOneText(const EvalFlags& flags);

struct EvalText {
  std::vector<int32_t> ids;
  uint64_t bytes = 0;  // of the text; 0: ids were given
  WindowPlan plan;
};
// Tokenises with the model's tokenizer, as the mode's origin does: transformers reads special tokens that are
// written in a text as such, llama.cpp's perplexity does not.
EvalText PrepareText(const EvalFlags& flags, const Model& model, Console& console);

// "mode", "window", "stride", "windows", "tokens", "text_bytes", "first_id".
void AddEvalFields(const EvalText& text, Json& out);
// "5 windows of 512 tokens, 256 apart (transformers), 2000 of 2100 tokens scored"
std::string DescribePlan(const EvalText& text);

}  // namespace apr
