// See eval_flags.h.
#include "cli/eval_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "generate/ids.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

constexpr int64_t kMostWindow = 2048;
constexpr int64_t kStride = 512;
constexpr int64_t kLlamaCppWindow = 512;

std::vector<int32_t> TextIds(const EvalFlags& flags, const Tokenizer* tokenizer, const Model& model, uint64_t& bytes) {
  if (!flags.prompt.ids.empty()) return ParseIds(flags.prompt.ids);
  if (!flags.prompt.ids_file.empty()) return ReadIdsFile(flags.prompt.ids_file);
  if (tokenizer == nullptr) {
    throw Error(ErrorCode::kModelLoad, "the model has no tokenizer: give --ids", {.file = model.file().path()});
  }
  const bool parse_special = flags.mode == "transformers";
  const EncodeOptions options{.add_special = true, .parse_special = parse_special};
  if (flags.prompt.text) {
    bytes = flags.prompt.text->size();
    return tokenizer->Encode(*flags.prompt.text, options).ids;
  }
  const auto file = MappedFile::Open(flags.text_file);
  bytes = file->size();
  return tokenizer->Encode(AsText(file->bytes()), options).ids;
}

WindowPlan MakePlan(const EvalFlags& flags, int64_t tokens, const Tokenizer* tokenizer, int64_t own) {
  if (flags.mode == "llama.cpp") {
    if (flags.stride > 0) throw Error(ErrorCode::kUsage, "--stride belongs to --mode transformers");
    const bool bos = tokenizer != nullptr && tokenizer->add_bos();
    return PlanLlamaCppWindows(tokens, flags.window > 0 ? flags.window : kLlamaCppWindow,
                               bos ? tokenizer->special_ids().bos : std::nullopt);
  }
  const int64_t window = flags.window > 0 ? flags.window : own > 0 ? std::min(own, kMostWindow) : kMostWindow;
  return PlanTransformersWindows(tokens, window, flags.stride > 0 ? flags.stride : std::min(kStride, window));
}

}  // namespace

void AddEvalFlags(Flags& app, EvalFlags& flags) {
  app.AddOption("--text", flags.text_file, "a file of text")->TypeName("FILE");
  AddPromptFlags(app, flags.prompt);
  app.AddOption("--mode", flags.mode,
                 "windows as transformers' page on perplexity cuts and weighs them, or as llama.cpp's perplexity does")
      ->Verify(Check::OneOf({"transformers", "llama.cpp"}))
      ->TypeName("NAME");
  app.AddOption("--window", flags.window, "tokens of a window (2048, at most what the model declares; llama.cpp: 512)")
      ->Verify(Check::Range(2, INT32_MAX))
      ->TypeName("N");
  app.AddOption("--stride", flags.stride, "tokens from one window to the next (512)")
      ->Verify(Check::Range(1, INT32_MAX))
      ->TypeName("N");
}

void RequireOneText(const EvalFlags& flags) {
  const int given = flags.prompt.given() + (flags.text_file.empty() ? 0 : 1);
  if (given == 1) return;
  throw Error(ErrorCode::kUsage, given == 0 ? "no text: give --text, -p, --ids or --ids-file"
                                            : "--text, -p, --ids and --ids-file exclude each other");
}

EvalText PrepareText(const EvalFlags& flags, const Model& model, Console& console) {
  RequireOneText(flags);
  const auto tokenizer = Tokenizer::FromModelFile(model.file());
  EvalText out;
  out.ids = TextIds(flags, tokenizer.get(), model, out.bytes);
  const int64_t own = model.config().max_positions;
  out.plan = MakePlan(flags, static_cast<int64_t>(out.ids.size()), tokenizer.get(), own);
  int64_t longest = 0;
  for (const EvalWindow& w : out.plan.windows) longest = std::max(longest, w.end - w.begin);
  if (own > 0 && longest > own) {
    console.Warn(fmt::format("windows of {} tokens are longer than the {} tokens the model declares", longest, own));
  }
  return out;
}

void AddEvalFields(const EvalText& text, Json& out) {
  out["mode"] = WindowModeName(text.plan.mode);
  out["window"] = text.plan.window;
  out["stride"] = text.plan.stride;
  out["windows"] = text.plan.windows.size();
  out["first_id"] = text.plan.first_id ? Json(*text.plan.first_id) : Json(nullptr);
  out["tokens"] = text.ids.size();
  out["text_bytes"] = text.bytes > 0 ? Json(text.bytes) : Json(nullptr);
}

std::string DescribePlan(const EvalText& text) {
  return fmt::format("{} windows of {} tokens, {} apart ({}), {} of {} tokens scored", text.plan.windows.size(),
                     text.plan.window, text.plan.stride, WindowModeName(text.plan.mode), text.plan.scored(), text.ids.size());
}

}  // namespace apr
