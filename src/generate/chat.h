// A conversation with a chat model: history, and answers that reuse what is already in the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "generate/generate.h"
#include "tokenizer/tokenizer.h"

namespace apr {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

struct ChatReply {
  std::string text;
  GenerateResult result;
  int64_t reused_tokens = 0;  // of the prompt, already in the cache
};

struct ChatOptions {
  std::string system;  // empty: none
  int64_t max_tokens = 512;
  std::vector<int32_t> stop_ids;
  std::vector<std::string> stops;          // texts that end an answer
  std::shared_ptr<const Grammar> grammar;  // every answer keeps to it; null: none
  std::shared_ptr<const TokenTrie> trie;   // of the vocabulary, where there is a grammar
};

class Chat {
 public:
  // Borrows all three. Throws kModelLoad if the model has no chat template.
  Chat(Session& session, const Tokenizer& tokenizer, Sampler& sampler, ChatOptions options);

  // Adds the message, generates the answer and adds that. `on_text` receives the answer as it comes.
  // An interrupted answer stays in the history as far as it got. Throws what ChatPrompt and Generate
  // throw; the history is then as before.
  ChatReply Say(const std::string& message, const std::function<void(const std::string&)>& on_text,
                const RunHooks& hooks = {});

  // Forgets everything but the system message.
  void Clear();
  void SetSystem(std::string text);  // and clears
  // Takes back the last message and what was answered; false: there is none.
  bool Undo();
  // Goes on from a conversation that HistoryJson wrote. Throws kInvalidFormat with `source`; the history is then as
  // before.
  void LoadHistory(const std::string& json, const std::string& source);
  const std::vector<ChatMessage>& history() const { return history_; }
  std::string HistoryJson() const;  // as `apr template --messages` reads it

 private:
  std::vector<int32_t> Render() const;

  Session& session_;
  const Tokenizer& tokenizer_;
  Sampler& sampler_;
  ChatOptions options_;
  std::vector<ChatMessage> history_;
  int sequence_;
};

}  // namespace apr
