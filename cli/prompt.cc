// See prompt.h.
#include "cli/prompt.h"

#include <fmt/format.h>

#include "base/error.h"
#include "cli/console.h"
#include "generate/chat_prompt.h"
#include "generate/ids.h"
#include "generate/stop_ids.h"

namespace apr {

void RequireOnePrompt(const PromptFlags& flags) {
  if (flags.given() == 1) return;
  throw Error(ErrorCode::kUsage, flags.given() == 0 ? "no tokens to run: give --ids, --ids-file or -p"
                                                    : "--ids, --ids-file and -p exclude each other");
}

std::vector<int32_t> PromptIds(const PromptFlags& flags, const Model& model) {
  RequireOnePrompt(flags);
  if (!flags.ids.empty()) return ParseIds(flags.ids);
  if (!flags.ids_file.empty()) return ReadIdsFile(flags.ids_file);
  const auto tokenizer = Tokenizer::FromModelFile(model.file());
  if (tokenizer == nullptr) {
    throw Error(ErrorCode::kModelLoad, "the model has no tokenizer: give --ids", {.file = model.file().path()});
  }
  return PlainPrompt(*tokenizer, *flags.text).ids;
}

std::vector<int32_t> StopTokens(const Model& model, const Tokenizer* tokenizer, Console& console) {
  std::vector<int32_t> out;
  for (const StopId& stop : StopIdsOf(model.file())) {
    console.Note(fmt::format("ends at token {} ({})", stop.id, stop.origin));
    out.push_back(stop.id);
  }
  if (!out.empty() || tokenizer == nullptr) return out;
  for (const auto& id : {tokenizer->special_ids().eos, tokenizer->special_ids().eot}) {
    if (!id) continue;
    console.Note(fmt::format("ends at token {} (tokenizer)", *id));
    out.push_back(*id);
  }
  return out;
}

}  // namespace apr
