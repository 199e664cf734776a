// See prompt.h.
#include "cli/prompt.h"

#include "base/error.h"
#include "generate/ids.h"

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
  throw Error(ErrorCode::kModelLoad, "no tokenizer", {.file = model.file().path()});
}

}  // namespace apr
