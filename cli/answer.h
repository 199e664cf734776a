// One answer in the making: sampler, streamed text, stop strings and grammar around a Generation.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "generate/chat_prompt.h"
#include "generate/generate.h"
#include "generate/stop_strings.h"
#include "generate/text_stream.h"

namespace apr {

struct AnswerOptions {
  SamplerOptions sampler;
  std::vector<std::string> stops;
  std::shared_ptr<const Grammar> grammar;  // null: none
  std::shared_ptr<const TokenTrie> trie;   // of the vocabulary, where there is a grammar
  std::vector<int32_t> stop_ids;
  int64_t max_tokens = 0;
  int64_t slide_keep = -1;
  std::function<void(int64_t dropped)> on_slide;
  RunHooks hooks;
};


class Answer {
 public:
  // On a new sequence of the session, of which the first `held` tokens of the prompt may be there already.
  // `on_text` receives the text as it becomes certain. Borrows all but the prompt.
  Answer(Session& session, int sequence, const Tokenizer* tokenizer, PromptTokens prompt, int64_t held, const AnswerOptions& options,
         std::function<void(const std::string&)> on_text);
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  Generation& generation() { return *generation_; }
  // Once the generation is done: the rest of the text.
  void Finish();

  const PromptTokens& prompt() const { return prompt_; }
  const GenerateResult& result() const { return generation_->result(); }
  // "text", "tokens", "stop_reason", ...
  Json Fields() const;

 private:
  bool Accept(int32_t id);
  void Emit(const std::string& text);

  PromptTokens prompt_;
  int64_t held_;
  const AnswerOptions& options_;
  std::function<void(const std::string&)> on_text_;
  Sampler sampler_;
  TextStream stream_;
  StopStrings stops_;
  std::unique_ptr<Constraint> constraint_;
  std::unique_ptr<Generation> generation_;
  bool has_text_;
  std::string text_;
};

// Generates until the answer is done, and finishes it. Throws what Generate throws.
void CompleteAnswer(Session& session, Answer& answer);

}  // namespace apr
