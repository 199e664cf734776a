// See answer.h.
#include "cli/answer.h"

#include <algorithm>
#include <utility>

#include "base/json.h"

namespace apr {

Answer::Answer(Session& session, int sequence, const Tokenizer* tokenizer, PromptTokens prompt, int64_t held, const AnswerOptions& options,
               std::function<void(const std::string&)> on_text)
    : prompt_(std::move(prompt)),
      held_(held),
      options_(options),
      on_text_(std::move(on_text)),
      sampler_(options.sampler),
      stream_(tokenizer, prompt_.ids),
      stops_(options.stops),
      has_text_(tokenizer != nullptr) {
  if (options.grammar) constraint_ = std::make_unique<Constraint>(options.grammar, options.trie, options.stop_ids);
  generation_ = std::make_unique<Generation>(session, sampler_,
                                             GenerateRequest{.sequence = sequence,
                                                             .prompt = std::span(prompt_.ids).subspan(static_cast<size_t>(held)),
                                                             .max_tokens = options.max_tokens,
                                                             .stop_ids = options.stop_ids,
                                                             .constraint = constraint_.get(),
                                                             .slide_keep = options.slide_keep,
                                                             .on_token = [this](int32_t id) { return Accept(id); },
                                                             .on_slide = options.on_slide,
                                                             .hooks = options.hooks});
}

bool Answer::Accept(int32_t id) {
  if (std::ranges::find(options_.stop_ids, id) == options_.stop_ids.end()) Emit(stream_.Push(id));
  return !stops_.stopped();
}

void Answer::Emit(const std::string& text) {
  const std::string certain = stops_.Push(text);
  if (certain.empty()) return;
  text_ += certain;
  on_text_(certain);
}

void Answer::Finish() {
  Emit(stream_.Finish());
  const std::string rest = stops_.Finish();
  text_ += rest;
  if (!rest.empty()) on_text_(rest);
}

Json Answer::Fields() const {
  const GenerateResult& r = result();
  return {{"text", has_text_ ? Json(text_) : Json(nullptr)},
          {"tokens", r.ids},
          {"tokens_generated", r.ids.size()},
          {"stop_reason", StopReasonName(r.reason)},
          {"prompt_tokens", prompt_.ids.size()},
          {"prompt_ids", prompt_.ids},
          {"cached_tokens", held_},
          {"dropped_tokens", r.dropped_tokens},
          {"chat_template", prompt_.template_name.empty() ? Json(nullptr) : Json(prompt_.template_name)},
          {"tok_per_sec", r.DecodeRate()},
          {"prompt_tok_per_sec", r.PromptRate()},
          {"first_token_ms", r.first_token_seconds * 1e3},
          {"inference_time_ms", (r.first_token_seconds + r.decode_seconds) * 1e3}};
}

void CompleteAnswer(Session& session, Answer& answer) {
  RunToEnd(session, answer.generation());
  answer.Finish();
}

}  // namespace apr
